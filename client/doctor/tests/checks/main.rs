//! Every check fires on its fault, and on nothing else.
#![allow(clippy::unwrap_used)]

mod devices;
mod machine;
mod node;

use peermem_doctor::{Finding, Tally, Verdict, check, facts::Facts};

/// Breaks one thing of the healthy machine. That check must fire with this verdict and these words, and say what mends it
/// or, if it could not see, why.
fn fires(check: &str, verdict: Verdict, words: &[&str], damage: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = machine::healthy();
    damage(&mut facts);
    let findings = check::all(&facts);
    let fired = findings.iter().find(|finding| finding.check == check && finding.verdict == verdict);
    let fired = fired.unwrap_or_else(|| panic!("{check} didn't say {verdict}: {findings:#?}"));
    let text = format!("{fired:?}");
    for word in words {
        assert!(text.contains(word), "{word:?} isn't in {text}");
    }
    fired.clone()
}

#[test]
fn nothing_fires_where_all_is_well() {
    let findings = check::all(&machine::healthy());
    for finding in &findings {
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        assert!(finding.why.is_none() && finding.fix.is_none(), "{finding:?}");
    }
    let checks = [
        "kernel-p2pdma",
        "kernel-on-demand",
        "kernel-dmabuf",
        "kernel-vfio-dmabuf",
        "rdma-node",
        "rdma-dmabuf",
        "rdma-on-demand",
        "rdma-mtu",
        "rdma-relaxed-ordering",
        "p2pmem",
        "p2pmem-leftover",
        "host-bridge",
        "acs-redirect",
        "iommu",
        "numa",
        "link",
        "bar-size",
        "peer-memory",
        "memlock",
        "memlock-unit",
        "daemon",
        "bench",
    ];
    for check in checks {
        assert!(findings.iter().any(|finding| finding.check == check), "{check} didn't look");
    }
}

#[test]
fn what_can_not_be_seen_is_unknown_and_never_passed() {
    let unseen = || peermem_doctor::facts::Unseen("too dark".to_owned());
    let mut facts = machine::healthy();
    facts.kernel_release = Err(unseen());
    facts.topology = Err(unseen());
    facts.rdma[0].answers = Err(unseen());
    let findings = check::all(&facts);
    for (check, about) in [("kernel", "kernel"), ("topology", "node"), ("rdma", "mlx5_0")] {
        let found = findings.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!((found.verdict, found.about.as_str()), (Verdict::Unknown, about));
    }
    assert!(findings.iter().all(|finding| finding.check != "host-bridge"), "it had nothing to look at");
}

#[test]
fn findings_are_counted() {
    let mut facts = machine::healthy();
    facts.kernel_release = Ok("6.12.43".to_owned());
    let findings = check::all(&facts);
    let tally = Tally::of(&findings);
    assert_eq!(
        (tally.warn, tally.unknown, tally.fail),
        (1, 1, 0),
        "a benchmark of another kernel says little"
    );
    assert_eq!(tally.pass + 2, findings.len());
}

#[test]
fn facts_survive_being_written_down() {
    let facts = machine::healthy();
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
}

#[test]
fn a_pair_is_judged_without_the_rest() {
    let mut facts = machine::healthy();
    machine::part(&mut facts, machine::GPU).details.numa_node = Some(1);
    let pair =
        |facts: &Facts, provider| check::pair(facts, machine::at(provider), &"rdma:mlx5_0".parse().unwrap());
    let verdict = |provider| {
        let findings = pair(&facts, provider).findings;
        findings.iter().find(|finding| finding.check == "numa").unwrap().verdict
    };
    assert_eq!(verdict(machine::DRIVE), Verdict::Pass);
    assert_eq!(verdict(machine::GPU), Verdict::Warn);
    assert!(pair(&facts, machine::DRIVE).findings.iter().all(|finding| finding.check != "bar-size"));
}
