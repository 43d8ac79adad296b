//! Trees of shapes that the guest doesn't have, composed by hand (see `tests/trees/README.md`): routes, the way there,
//! and what is slow on it.

use peermem_proto::{Initiator, Route};
use peermem_topology::{MemoryKind, NoRoute, NumaNodes, PathReport, Snapshot, Turn, Verdict};

use super::{DIRECT, host_bridge, machine::at};

fn tree(json: &str) -> Snapshot {
    let tree: Snapshot = serde_json::from_str(json).unwrap();
    assert!(tree.origin.as_ref().unwrap().starts_with("composed by hand"));
    tree
}

fn explain(tree: &Snapshot, provider: &str, initiator: &str) -> PathReport {
    let report = tree.explain(at(provider), &initiator.parse().unwrap());
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<PathReport>(&json).unwrap(), report);
    report
}

/// The way in one line: functions up, where it turns, functions down.
fn way(report: &PathReport) -> String {
    let join = |functions: &[_]| functions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let turn = match report.turn.unwrap() {
        Turn::Function(bridge) => bridge.to_string(),
        Turn::HostBridge(root) => format!("root {root}"),
        Turn::HostBridges(one, other) => format!("roots {one} {other}"),
        Turn::Cpu(root) => format!("cpu {root}"),
    };
    format!("{} | {turn} | {}", join(&report.up), join(&report.down))
}

fn bottleneck(report: &PathReport) -> String {
    report.bottleneck.map_or("unknown".to_owned(), |link| {
        format!("{} - {}: {} of {}", link.above, link.below, link.current, link.max)
    })
}

#[test]
fn two_sockets() {
    let tree = tree(include_str!("../trees/two_sockets.json"));
    let near = explain(&tree, "0000:17:00.0", "rdma:mlx5_0");
    assert_eq!(near.verdict, Verdict::Accepted(host_bridge("0000:15", &[])));
    assert_eq!(way(&near), "0000:17:00.0 0000:15:03.0 | root 0000:15 | 0000:15:01.0 0000:16:00.0");
    assert_eq!(near.numa, Some(NumaNodes { provider: 0, initiator: 0 }));
    assert!(!near.numa.unwrap().differ());
    assert_eq!(bottleneck(&near), "0000:15:03.0 - 0000:17:00.0: 2.5 GT/s x16 of 32.0 GT/s x16");

    let far = explain(&tree, "0000:17:00.0", "rdma:mlx5_1");
    assert_eq!(far.verdict, Verdict::Accepted(host_bridge("0000:15 and 0000:95", &[])));
    assert_eq!(way(&far), "0000:17:00.0 0000:15:03.0 | roots 0000:15 0000:95 | 0000:95:01.0 0000:96:00.0");
    assert!(far.numa.unwrap().differ());

    let providers: Vec<_> = tree.providers().into_iter().collect();
    let gpu = vec![MemoryKind::Gpu];
    assert_eq!(providers, [(at("0000:17:00.0"), gpu.clone()), (at("0000:97:00.0"), gpu)]);
    let initiators: Vec<_> = tree.initiators().iter().map(ToString::to_string).collect();
    assert_eq!(
        initiators,
        [
            "rdma:mlx5_0",
            "rdma:mlx5_1",
            "pci:0000:17:00.0",
            "pci:0000:18:00.0",
            "pci:0000:97:00.0",
            "pci:0000:98:00.0"
        ]
    );
    assert_eq!(tree.names_at(at("0000:17:00.0")), ["renderD128"]);
}

#[test]
fn cascaded_switches() {
    let tree = tree(include_str!("../trees/cascaded_switches.json"));
    let near = explain(&tree, "0000:45:00.0", "rdma:mlx5_0");
    assert_eq!((&near.verdict, near.distance), (&Verdict::Accepted(DIRECT), Some(4)));
    assert_eq!(near.reason, "both are below 0000:43:00.0, and no port on the way redirects");
    assert_eq!(way(&near), "0000:45:00.0 0000:44:00.0 | 0000:43:00.0 | 0000:44:01.0 0000:46:00.0");

    let far = explain(&tree, "0000:45:00.0", "pci:0000:57:00.0");
    assert_eq!((&far.verdict, far.distance), (&Verdict::Accepted(DIRECT), Some(8)));
    assert_eq!(
        way(&far),
        "0000:45:00.0 0000:44:00.0 0000:43:00.0 0000:42:00.0 | 0000:41:00.0 | \
         0000:42:01.0 0000:53:00.0 0000:54:02.0 0000:57:00.0"
    );
    assert_eq!(bottleneck(&far), "0000:54:02.0 - 0000:57:00.0: 16.0 GT/s x4 of 16.0 GT/s x4");
    assert_eq!(tree.link_above(at("0000:44:00.0")), None, "inside a switch there is no link");
    assert_eq!(tree.link_above(at("0000:43:00.0")).unwrap().above, at("0000:42:00.0"));
}

#[test]
fn functions_of_one_device() {
    let tree = tree(include_str!("../trees/multi_function.json"));
    // The card's second function and the memory that a virtual machine has of it.
    let vfio = explain(&tree, "0000:02:08.2", "rdma:mlx5_1");
    assert_eq!((&vfio.verdict, vfio.distance), (&Verdict::Accepted(DIRECT), Some(2)));
    assert_eq!(way(&vfio), "0000:02:08.2 | 0000:00:1b.0 | 0000:02:00.1");
    let itself = explain(&tree, "0000:02:00.0", "rdma:mlx5_0");
    assert_eq!(itself.reason, "it is the same function, and no port on the way redirects");
    assert_eq!((itself.distance, way(&itself)), (Some(0), " | 0000:02:00.0 | ".to_owned()));

    let gpu = explain(&tree, "0000:01:00.0", "rdma:mlx5_2");
    assert!(matches!(&gpu.verdict, Verdict::Refused(NoRoute::HostBridge(_))));
    assert!(
        gpu.reason.contains("8086:3ec2") && gpu.reason.contains("below one PCIe switch"),
        "{}",
        gpu.reason
    );
    assert_eq!(way(&gpu), "0000:01:00.0 0000:00:01.0 | root 0000:00 | 0000:00:1b.0 0000:02:00.2");
    assert_eq!(gpu.numa, None);
    // The card can do sixteen lanes, its slot eight.
    assert_eq!(bottleneck(&gpu), "0000:00:1b.0 - 0000:02:00.2: 8.0 GT/s x8 of 8.0 GT/s x8");

    let providers: Vec<_> = tree.providers().into_iter().collect();
    let expected = [(at("0000:01:00.0"), MemoryKind::Gpu), (at("0000:02:08.2"), MemoryKind::Vfio)];
    assert_eq!(providers, expected.map(|(address, kind)| (address, vec![kind])));
    assert_eq!(tree.names_at(at("0000:01:00.0")), ["card0", "renderD128"]);
}

#[test]
fn a_domain_of_its_own() {
    let tree = tree(include_str!("../trees/vmd.json"));
    let drives = explain(&tree, "10000:e1:00.0", "pci:10000:e2:00.0");
    assert_eq!(drives.verdict, Verdict::Accepted(host_bridge("10000:e0", &[])));
    let card = explain(&tree, "10000:e1:00.0", "rdma:mlx5_0");
    assert_eq!(card.verdict, Verdict::Accepted(host_bridge("10000:e0 and 0000:85", &[])));
    assert_eq!(
        way(&card),
        "10000:e1:00.0 10000:e0:02.0 | roots 10000:e0 0000:85 | 0000:85:00.0 0000:86:00.0"
    );
    assert_eq!(tree.providers()[&at("10000:e1:00.0")], [MemoryKind::P2pmem]);
}

#[test]
fn conventional_pci() {
    let tree = tree(include_str!("../trees/conventional_bridge.json"));
    let below = explain(&tree, "0000:05:00.0", "pci:0000:05:01.0");
    assert_eq!((&below.verdict, below.distance), (&Verdict::Accepted(DIRECT), Some(2)));
    assert_eq!(way(&below), "0000:05:00.0 | 0000:00:1e.0 | 0000:05:01.0");
    assert_eq!(bottleneck(&below), "unknown", "a conventional bus has no link");
    assert_eq!(below.acs_unreadable, [], "conventional functions have no ACS to read");

    let across = explain(&tree, "0000:05:00.0", "pci:0000:06:00.0");
    assert!(matches!(across.verdict, Verdict::Refused(NoRoute::HostBridge(_))));
    assert_eq!(bottleneck(&across), "0000:00:1c.0 - 0000:06:00.0: 5.0 GT/s x1 of 5.0 GT/s x1");
    let itself = explain(&tree, "0000:06:00.0", "pci:0000:06:00.0");
    assert_eq!(itself.verdict, Verdict::Accepted(Route::BusAddress { acs_checked: false }));
    assert_eq!(itself.acs_unreadable, [at("0000:06:00.0")]);
    assert!(itself.reason.contains("CAP_SYS_ADMIN"), "{}", itself.reason);

    let providers: Vec<_> = tree.providers().into_iter().collect();
    assert_eq!(
        providers,
        [(at("0000:05:00.0"), vec![MemoryKind::Vfio])],
        "not the management controller's display"
    );
}

#[test]
fn a_switch_that_redirects() {
    let mut tree = tree(include_str!("../trees/redirecting_switch.json"));
    let ports = ["0000:c2:00.0", "0000:c2:01.0"];
    let detour = explain(&tree, "0000:c3:00.0", "rdma:mlx5_0");
    assert_eq!(detour.verdict, Verdict::Accepted(host_bridge("0000:c0", &ports)));
    assert_eq!(detour.distance, Some(4), "by the shortest way, as the kernel counts");
    assert_eq!(
        way(&detour),
        "0000:c3:00.0 0000:c2:00.0 0000:c1:00.0 0000:c0:01.1 | root 0000:c0 | \
         0000:c0:01.1 0000:c1:00.0 0000:c2:01.0 0000:c4:00.0"
    );
    assert_eq!(bottleneck(&detour), "0000:c0:01.1 - 0000:c1:00.0: 8.0 GT/s x8 of 16.0 GT/s x16");
    assert!(detour.reason.contains("pci=disable_acs_redir=0000:c2:00.0;0000:c2:01.0"), "{}", detour.reason);

    // The same switch below a host bridge that passes nothing.
    tree.cpu = None;
    let refused = explain(&tree, "0000:c3:00.0", "rdma:mlx5_0");
    assert!(
        matches!(&refused.verdict, Verdict::Refused(NoRoute::Redirected { ports: found, .. }) if *found == ports.map(at))
    );
    assert_eq!(way(&refused), way(&detour), "the way that the kernel doesn't let it take");
}

#[test]
fn a_link_with_half_its_lanes() {
    let tree = tree(include_str!("../trees/slow_link.json"));
    let report = explain(&tree, "0000:63:00.0", "rdma:mlx5_0");
    assert_eq!(report.verdict, Verdict::Accepted(DIRECT));
    // The card could do sixteen lanes; its slot has eight, of which four run.
    assert_eq!(bottleneck(&report), "0000:62:04.0 - 0000:64:00.0: 16.0 GT/s x4 of 16.0 GT/s x8");
    let link = report.bottleneck.unwrap();
    assert_eq!(link.bandwidth, 4 * 16_000_000_000 / 130 * 128 / 8);
    assert_eq!(link.bandwidth * 2, link.max.bandwidth());
}

#[test]
fn software_and_what_is_not_there() {
    let mut tree = tree(include_str!("../trees/slow_link.json"));
    let rxe = serde_json::from_str(r#"{"kind": "software"}"#).unwrap();
    tree.rdma.insert("rxe0".parse().unwrap(), rxe);
    let copied = explain(&tree, "0000:63:00.0", "rdma:rxe0");
    assert_eq!((&copied.verdict, copied.distance), (&Verdict::Accepted(Route::Software {}), None));
    assert_eq!(
        way(&copied),
        "0000:63:00.0 0000:62:00.0 0000:61:00.0 0000:60:02.0 | cpu 0000:60 | ",
        "the CPU reads it over the provider's links"
    );
    assert_eq!(bottleneck(&copied), "0000:62:00.0 - 0000:63:00.0: 16.0 GT/s x16 of 16.0 GT/s x16");

    for (provider, initiator) in [("0000:7f:00.0", "rdma:mlx5_0"), ("0000:63:00.0", "rdma:mlx5_9")] {
        let report = explain(&tree, provider, initiator);
        assert!(matches!(report.verdict, Verdict::Refused(_)));
        assert_eq!((report.turn, report.distance, report.bottleneck), (None, None, None));
    }
    assert_eq!(explain(&tree, "0000:63:00.0", "emulated").verdict, Verdict::Accepted(Route::Software {}));
    assert_eq!(tree.function_of(&Initiator::Emulated), None);
}
