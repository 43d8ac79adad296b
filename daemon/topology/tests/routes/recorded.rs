//! Recorded trees (see `tests/trees/README.md`), with the kernel's own answer for every pair of their drives.

use peermem_proto::{Initiator, PciAddress, Route};
use peermem_topology::{MemoryKind, NoRoute, Snapshot};

/// The drives, in the order of their names: a, b, c, d.
fn drives(tree: &Snapshot) -> Vec<PciAddress> {
    let nvme = "1b36:0010".parse().unwrap();
    tree.functions.iter().filter(|(_, function)| function.id == nvme).map(|(&address, _)| address).collect()
}

/// A letter for each pair, a row for each disk, a column for each CMB: `B`us address, through the `H`ost bridge,
/// refused (`.`), refused because of ACS `R`edirection.
fn verdicts(tree: &str) -> Vec<String> {
    let tree: Snapshot = serde_json::from_str(tree).unwrap();
    let drives = drives(&tree);
    let letter = |provider: PciAddress, initiator: PciAddress| match tree
        .route(provider, &Initiator::Pci(initiator))
    {
        Ok(Route::BusAddress { acs_checked: true }) => 'B',
        Ok(Route::HostBridge { .. }) => 'H',
        Err(NoRoute::HostBridge(_)) => '.',
        Err(NoRoute::Redirected { .. }) => 'R',
        other => panic!("{initiator} -> {provider}: {other:?}"),
    };
    drives.iter().map(|&disk| drives.iter().map(|&cmb| letter(cmb, disk)).collect()).collect()
}

/// The kernel took the pairs with a capital letter but R and refused all others.
#[test]
fn the_verdicts_are_what_the_kernel_answered() {
    assert_eq!(verdicts(include_str!("../trees/switch.json")), ["BB.", "BB.", "..B"]);
    assert_eq!(verdicts(include_str!("../trees/zen.json")), ["BBH", "BBH", "HHB"]);
    let redirecting = ["BB..", "BB..", "..BR", "..RB"];
    assert_eq!(verdicts(include_str!("../trees/redirecting_root_port.json")), redirecting);
}

/// The kernel took these pairs too, but between a and b not one byte arrived: the emulated IOMMU discards bus
/// addresses. A verdict isn't proof.
#[test]
fn a_verdict_is_not_proof() {
    assert_eq!(verdicts(include_str!("../trees/iommu.json")), ["BB.", "BB.", "..B"]);
}

#[test]
fn rxe_is_software() {
    let tree: Snapshot = serde_json::from_str(include_str!("../trees/switch.json")).unwrap();
    let rxe = Initiator::Rdma("rxe0".parse().unwrap());
    for drive in drives(&tree) {
        assert_eq!(tree.route(drive, &rxe), Ok(Route::Software {}));
    }
}

/// The guest with its details: the drives' CMBs and the test GPU are what it has to give.
#[test]
fn what_the_guest_has_to_give() {
    let json = include_str!("../trees/switch_in_full.json");
    assert_eq!(verdicts(json), ["BB.", "BB.", "..B"]);
    let tree: Snapshot = serde_json::from_str(json).unwrap();
    let providers: Vec<_> =
        tree.providers().into_iter().map(|(at, kinds)| format!("{at} {kinds:?}")).collect();
    let pool = [MemoryKind::P2pmem];
    assert_eq!(
        providers,
        [
            format!("0000:00:03.0 {:?}", [MemoryKind::Gpu]),
            format!("0000:03:00.0 {pool:?}"),
            format!("0000:04:00.0 {pool:?}"),
            format!("0000:05:00.0 {pool:?}"),
        ]
    );
    let initiators: Vec<_> = tree.initiators().iter().map(ToString::to_string).collect();
    let drives = ["pci:0000:03:00.0", "pci:0000:04:00.0", "pci:0000:05:00.0"];
    assert_eq!(initiators, [&["rdma:rxe0", "pci:0000:00:03.0"][..], &drives].concat());
    let link = tree.link_above("0000:03:00.0".parse().unwrap()).unwrap();
    assert_eq!((link.current.to_string(), link.bandwidth), ("2.5 GT/s x1".to_owned(), 250_000_000));
}
