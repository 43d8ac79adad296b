//! `peermemctl explain`

use std::ffi::CString;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Group, User, getgrouplist};
use peermem::{
    Client,
    proto::{Action, Considered, call},
};

use crate::{
    cli::Explain,
    failure::{NotAllowed, Usage},
    output::Output,
};

pub(crate) fn run(client: &Client, args: &Explain, output: &Output) -> Result<()> {
    if args.region.is_none() && args.action != Action::Watch {
        return Err(Usage(format!("{} is about a region: name it by --region", args.action)).into());
    }
    let (uid, found) = find(&args.user)?;
    let gids = match found {
        Some(user) if args.groups.is_empty() => groups_of(&user)?,
        _ => args.groups.iter().map(gid_of).collect::<Result<_>>()?,
    };
    let question = call::Explain {
        uid,
        gids,
        action: args.action,
        region: args.region.clone(),
        initiator: args.initiator.clone(),
    };
    let explanation = client.explain(&question)?;
    if output.is_json() {
        output.json(&explanation)?;
    } else {
        let verdict = if explanation.allowed { "allowed" } else { "refused" };
        output.line(&format!("{verdict}: {}", explanation.verdict))?;
        if !explanation.rules.is_empty() {
            output.table(
                ["rule", "verdict"],
                explanation
                    .rules
                    .iter()
                    .map(|rule| [rule.rule.clone(), fared(rule, explanation.decided_by.as_deref())]),
            )?;
        }
    }
    if explanation.allowed { Ok(()) } else { Err(NotAllowed.into()) }
}

fn fared(rule: &Considered, decided_by: Option<&str>) -> String {
    match &rule.mismatches[..] {
        [] if decided_by == Some(&rule.rule) => "decides".to_owned(),
        [] => "matches too, later".to_owned(),
        parts => format!("doesn't match: {}", parts.join(", ")),
    }
}

/// A number that nobody has been given is a user too, as in a container.
fn find(user: &str) -> Result<(u32, Option<User>)> {
    if let Ok(uid) = user.parse::<u32>() {
        return Ok((uid, User::from_uid(uid.into())?));
    }
    match User::from_name(user)? {
        Some(found) => Ok((found.uid.as_raw(), Some(found))),
        None => Err(Usage(format!("no user is named {user}: give a name or a number")).into()),
    }
}

/// The groups that a new login of the user's would have.
fn groups_of(user: &User) -> Result<Vec<u32>> {
    let name = CString::new(user.name.as_str()).context("a user's name holds a zero byte")?;
    let gids = getgrouplist(&name, user.gid).context("can't look up the user's groups")?;
    Ok(gids.into_iter().map(Gid::as_raw).collect())
}

fn gid_of(group: &String) -> Result<u32> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    match Group::from_name(group)? {
        Some(found) => Ok(found.gid.as_raw()),
        None => Err(Usage(format!("no group is named {group}: give a name or a number")).into()),
    }
}
