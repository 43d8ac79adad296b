//! Limits on locked memory.

use peermem::advice::RAISE_MEMLOCK;
use peermem_proto::ByteLen;

use crate::{
    Finding,
    facts::{Facts, Limit},
};

/// Queues of a few dozen connections and some buffers; systemd's default is 8 MiB.
const ENOUGH: ByteLen = ByteLen::new(64 << 20);
const WHY: &str = "pinned regions and the queues of some devices count: registration then fails with ENOMEM";

pub(super) fn limits(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![own(facts)];
    findings.extend(facts.memlock.unit.as_ref().map(|asked| {
        match asked.limit {
            Err(ref unseen) => Finding::unknown("memlock-unit", &asked.unit, unseen),
            Ok(limit) if limit >= Limit::Bytes(ENOUGH) => {
                Finding::pass("memlock-unit", &asked.unit, format!("LimitMEMLOCK is {limit}"))
            }
            Ok(limit) => Finding::warn("memlock-unit", &asked.unit, format!("LimitMEMLOCK is {limit}"), WHY)
                .fix(format!("`systemctl edit {}`, and below [Service] LimitMEMLOCK=infinity", asked.unit)),
        }
    }));
    findings
}

fn own(facts: &Facts) -> Finding {
    const CHECK: &str = "memlock";
    let limit = facts.memlock.own;
    let measured = format!("RLIMIT_MEMLOCK is {limit}");
    if facts.memlock.exempt {
        return Finding::pass(CHECK, "this process", format!("{measured}, which CAP_IPC_LOCK overrides"));
    }
    if limit >= Limit::Bytes(ENOUGH) {
        return Finding::pass(CHECK, "this process", measured);
    }
    Finding::warn(CHECK, "this process", measured, WHY).fix(RAISE_MEMLOCK)
}
