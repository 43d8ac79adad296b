//! Limits on locked memory: of this process, and of a systemd unit.

use std::{path::Path, process::Command};

use peermem_proto::ByteLen;
use rustix::process::{Resource, getrlimit};

use super::file;
use crate::facts::{Limit, Memlock, Seen, UnitMemlock, Unseen};

/// `CAP_IPC_LOCK` in `include/uapi/linux/capability.h`.
const CAP_IPC_LOCK: u32 = 14;

pub(super) fn read(proc: &Path, unit: Option<&str>) -> Memlock {
    let own = getrlimit(Resource::Memlock).current;
    let status = file::text(&proc.join("self/status"), 16 << 10).unwrap_or_default();
    Memlock {
        own: own.map_or(Limit::Unlimited, |bytes| Limit::Bytes(ByteLen::new(bytes))),
        exempt: effective_capabilities(&status).is_some_and(|set| set >> CAP_IPC_LOCK & 1 != 0),
        unit: unit.map(|unit| UnitMemlock { unit: unit.to_owned(), limit: of_unit(unit) }),
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn of_unit(unit: &str) -> Seen<Limit> {
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["show", "--property", "LoadState,LimitMEMLOCK", "--", unit]);
    let output = systemctl.output().map_err(|error| Unseen(format!("systemctl can't be run: {error}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Unseen(format!("systemctl show {unit} failed: {}", message.trim())));
    }
    parse(unit, &String::from_utf8_lossy(&output.stdout))
}

/// The answer of `systemctl show`, which succeeds for units that don't exist.
fn parse(unit: &str, properties: &str) -> Seen<Limit> {
    let property = |name| properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (property("LoadState"), property("LimitMEMLOCK")) {
        (Some("loaded"), Some("infinity")) => Ok(Limit::Unlimited),
        (Some("loaded"), Some(bytes)) => bytes
            .parse()
            .map(|bytes| Limit::Bytes(ByteLen::new(bytes)))
            .map_err(|_| Unseen(format!("systemctl gives LimitMEMLOCK={bytes} for {unit}"))),
        (Some(state), _) if state != "loaded" => Err(Unseen(format!("systemd says of {unit}: {state}"))),
        _ => Err(Unseen(format!("systemd knows no LimitMEMLOCK of {unit}: is it a service?"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_answers() {
        let limit = |properties| parse("x.service", properties);
        let bytes = Limit::Bytes(ByteLen::new(8 << 20));
        assert_eq!(limit("LimitMEMLOCK=8388608\nLoadState=loaded\n").unwrap(), bytes);
        assert_eq!(limit("LoadState=loaded\nLimitMEMLOCK=infinity\n").unwrap(), Limit::Unlimited);
        assert!(limit("LimitMEMLOCK=8388608\nLoadState=not-found\n").unwrap_err().0.contains("not-found"));
        assert!(limit("LoadState=loaded\n").is_err(), "a target has no limits");
    }

    #[test]
    fn capabilities_of_a_process() {
        let status = "Name:\tdoctor\nCapInh:\t0000000000000000\nCapEff:\t0000000000004000\n";
        assert_eq!(effective_capabilities(status), Some(1 << CAP_IPC_LOCK));
        assert_eq!(effective_capabilities("Name:\tdoctor\n"), None);
    }
}
