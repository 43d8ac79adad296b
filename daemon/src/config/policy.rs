//! From the rules that the file says to a policy. Users and groups are looked up here, once.

use std::{ops::RangeInclusive, time::Duration};

use nix::unistd::{Group, User};
use peermem_proto::{ByteLen, Initiator, RegionName};
use toml::Spanned;

use super::{
    file::{self, Account},
    validate::{Wrong, at_least_one, wrong},
};
use crate::policy::{Bounds, DEFAULT_GROUP, Glob, Globs, Policy, Rule, Who};

/// Ten years: far above any use, and far below what overflows a clock.
const LONGEST_LEASE_SECS: u64 = 10 * 365 * 24 * 3600;

/// What counts where the file has no rule.
pub(super) fn default() -> Policy {
    // Where the group can't be looked up, nobody is in it.
    let group = Group::from_name(DEFAULT_GROUP).ok().flatten();
    Policy::default_for(daemon_uid(), group.map(|group| group.gid.as_raw()))
}

pub(super) fn validate(file: file::Policy) -> Result<Policy, Wrong> {
    if file.rule.is_empty() {
        return Ok(default());
    }
    let mut policy = Policy::built_in(daemon_uid());
    for rule in file.rule {
        let name = rule.name.clone();
        policy.push(validate_rule(rule)?).map_err(|error| wrong(&name, error.to_string()))?;
    }
    Ok(policy)
}

fn daemon_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn validate_rule(file: file::PolicyRule) -> Result<Rule, Wrong> {
    Ok(Rule {
        name: file.name.get_ref().parse().map_err(|error| wrong(&file.name, format!("{error}")))?,
        who: who(&file)?,
        regions: globs(file.regions.as_ref(), region_glob)?,
        initiators: globs(file.initiators.as_ref(), initiator_glob)?,
        bounds: bounds(&file)?,
        allow: file.allow,
    })
}

fn who(rule: &file::PolicyRule) -> Result<Who, Wrong> {
    if rule.users.is_empty() && rule.uid_ranges.is_empty() && rule.groups.is_empty() {
        let message = "this rule is for nobody: expected `users`, `uid_ranges` or `groups`; `users = [\"*\"]` for everyone";
        return Err(wrong(&rule.name, message.to_owned()));
    }
    let users = rule.users.iter().map(user);
    let ranges = rule.uid_ranges.iter().map(uid_range);
    Ok(Who {
        uids: users.chain(ranges).collect::<Result<_, _>>()?,
        gids: rule.groups.iter().map(group).collect::<Result<_, _>>()?,
    })
}

fn user(user: &Spanned<Account>) -> Result<RangeInclusive<u32>, Wrong> {
    if matches!(user.get_ref(), Account::Name(name) if name == "*") {
        return Ok(0..=u32::MAX);
    }
    let uid = id(user, ["user", "passwd"], |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))?;
    Ok(uid..=uid)
}

fn group(group: &Spanned<Account>) -> Result<u32, Wrong> {
    id(group, ["group", "group"], |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

/// The id of an account of that kind, which `getent` shows from that database.
fn id(
    account: &Spanned<Account>,
    [kind, database]: [&str; 2],
    look_up: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, Wrong> {
    let name = match account.get_ref() {
        Account::Id(id) => return Ok(*id),
        Account::Name(name) => name,
    };
    let found = look_up(name).map_err(|errno| {
        wrong(
            account,
            format!("can't look up {kind} {name:?}: {}; try `getent {database} {name}`", errno.desc()),
        )
    })?;
    found.ok_or_else(|| {
        let message = format!(
            "no {kind} is named {name:?}: expected one that `getent {database} {name}` shows, or an id without quotes"
        );
        wrong(account, message)
    })
}

fn uid_range(range: &Spanned<String>) -> Result<RangeInclusive<u32>, Wrong> {
    let text = range.get_ref();
    let ends = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match ends {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err(wrong(
            range,
            format!("{text:?} isn't a range of uids: expected FIRST-LAST, such as 100000-165535"),
        )),
    }
}

/// The patterns of one key; where it is absent, everything fits.
fn globs(
    patterns: Option<&Spanned<Vec<Spanned<String>>>>,
    check: impl Fn(&str) -> Result<Glob, String>,
) -> Result<Globs, Wrong> {
    let Some(patterns) = patterns else { return Ok(Globs::all()) };
    if patterns.get_ref().is_empty() {
        return Err(wrong(
            patterns,
            "nothing fits an empty list: expected patterns, or no such key for all".to_owned(),
        ));
    }
    let glob =
        |pattern: &Spanned<String>| check(pattern.get_ref()).map_err(|message| wrong(pattern, message));
    patterns.get_ref().iter().map(glob).collect()
}

fn region_glob(text: &str) -> Result<Glob, String> {
    let glob: Glob = text.parse().map_err(|error| format!("{error}"))?;
    if glob.is_literal() {
        text.parse::<RegionName>().map_err(|error| error.to_string())?;
    }
    Ok(glob)
}

/// A pattern over initiators that some initiator fits: `mlx5_*` without `rdma:` would silently fit none.
fn initiator_glob(text: &str) -> Result<Glob, String> {
    // Initiators show PCI addresses in lower case.
    let is_address = text.starts_with("pci:") || text.starts_with("vfio:");
    let text = if is_address { &text.to_ascii_lowercase() } else { text };
    let glob: Glob = text.parse().map_err(|error| format!("{error}"))?;
    let start = glob.literal_start();
    let fits = |form: &&str| form.starts_with(start) || start.starts_with(form);
    if glob.is_literal() {
        text.parse::<Initiator>().map_err(|error| error.to_string())?;
    } else if !["rdma:", "pci:", "vfio:", "emulated"].iter().any(fits) {
        return Err(format!(
            "no initiator fits {text:?}: expected a pattern that starts with rdma:, pci: or vfio:, `emulated`, or *"
        ));
    }
    Ok(glob)
}

fn bounds(rule: &file::PolicyRule) -> Result<Bounds, Wrong> {
    let bytes = |text: &Spanned<String>| match text.get_ref().parse() {
        Ok(ByteLen::ZERO) => {
            Err(wrong(text, "0 would let nobody map: expected a size, such as 8GiB".to_owned()))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(wrong(text, error.to_string())),
    };
    let longest = |secs: &Spanned<u64>| match at_least_one(secs)? {
        secs @ ..=LONGEST_LEASE_SECS => Ok(Duration::from_secs(secs)),
        _ => {
            let message =
                format!("expected at most {LONGEST_LEASE_SECS} (ten years), or no such key for ever");
            Err(wrong(secs, message))
        }
    };
    Ok(Bounds {
        bytes_per_user: rule.bytes_per_user.as_ref().map(bytes).transpose()?,
        leases_per_user: rule.leases_per_user.as_ref().map(at_least_one).transpose()?,
        longest_lease: rule.longest_lease_secs.as_ref().map(longest).transpose()?,
    })
}
