//! What holds on any tree.

use peermem_proto::{Initiator, PciAddress, Route};
use peermem_topology::{
    Acs, AcsControl, Class, Cpu, Details, Function, NoRoute, PciId, RootBus, Snapshot, Turn, Verdict,
};
use proptest::{collection::vec, option, prelude::*};

fn any_acs() -> impl Strategy<Value = Acs> {
    prop_oneof![
        3 => Just(Acs::Absent),
        1 => Just(Acs::Unreadable),
        2 => any::<u16>().prop_map(|register| Acs::Control(AcsControl::new(register))),
    ]
}

fn any_id() -> impl Strategy<Value = PciId> {
    prop_oneof![Just(0x29c0), Just(0x2f00), Just(0x2020)].prop_map(|device| PciId { vendor: 0x8086, device })
}

fn any_cpu() -> impl Strategy<Value = Option<Cpu>> {
    let vendor = prop_oneof![Just("AuthenticAMD".to_owned()), Just("GenuineIntel".to_owned())];
    option::of((vendor, 0x15u32..0x1b).prop_map(|(vendor, family)| Cpu { vendor, family }))
}

/// Up to 24 functions on two root buses, each below an earlier one or on a root bus.
fn any_tree() -> impl Strategy<Value = Snapshot> {
    let function = (any::<prop::sample::Index>(), any::<bool>(), any::<bool>(), any_id(), any_acs());
    (any_cpu(), vec(function, 1..24)).prop_map(|(cpu, functions)| {
        let mut placed: Vec<(PciAddress, Function)> = Vec::new();
        for (number, (above, on_root, express, id, acs)) in (0..).zip(functions) {
            let address = PciAddress::new(0, number / 8, number % 8, 0).unwrap();
            let parent = (!on_root && !placed.is_empty()).then(|| above.get(&placed));
            let (root, upstream) = match parent {
                Some((parent, bridge)) => (bridge.root, [bridge.upstream.as_slice(), &[*parent]].concat()),
                None => (RootBus { domain: 0, bus: number % 2 * 0x80 }, Vec::new()),
            };
            let class = Class::new(0x060400);
            placed.push((
                address,
                Function {
                    id,
                    class,
                    express,
                    root,
                    upstream,
                    acs,
                    no_iommu_group: None,
                    details: Details::default(),
                },
            ));
        }
        Snapshot { cpu, functions: placed.into_iter().collect(), ..Snapshot::default() }
    })
}

fn kind(route: &Result<Route, NoRoute>) -> &'static str {
    match route {
        Ok(Route::BusAddress { acs_checked: true }) => "bus address",
        Ok(Route::BusAddress { acs_checked: false }) => "bus address, ACS not readable",
        Ok(Route::HostBridge { .. }) => "host bridge",
        Ok(Route::Software {}) => "software",
        Ok(Route::Iommu {}) => "translated",
        Err(NoRoute::HostBridge(_)) => "refused",
        Err(NoRoute::Redirected { .. }) => "refused, redirected",
        Err(_) => "unknown",
    }
}

proptest! {
    #[test]
    fn both_ways_are_of_one_kind(tree in any_tree()) {
        for &one in tree.functions.keys() {
            for &other in tree.functions.keys() {
                let forth = tree.route(one, &Initiator::Pci(other));
                let back = tree.route(other, &Initiator::Pci(one));
                prop_assert_eq!(kind(&forth), kind(&back), "{} {}: {:?} {:?}", one, other, &forth, &back);
                prop_assert_eq!(tree.distance(one, other), tree.distance(other, one));
                prop_assert_eq!(tree.distance(one, other) == Some(0), one == other);
            }
        }
    }

    #[test]
    fn a_function_without_redirection_reaches_itself(tree in any_tree()) {
        for (&address, function) in &tree.functions {
            if !function.acs.redirects() {
                let acs_checked = function.acs != Acs::Unreadable;
                prop_assert_eq!(
                    tree.route(address, &Initiator::Pci(address)),
                    Ok(Route::BusAddress { acs_checked })
                );
            }
        }
    }

    #[test]
    fn turning_acs_off_gives_every_pair_that_meets_the_bus_address(mut tree in any_tree()) {
        for function in tree.functions.values_mut() {
            function.acs = Acs::Absent;
        }
        for &one in tree.functions.keys() {
            for &other in tree.functions.keys() {
                let route = tree.route(one, &Initiator::Pci(other));
                prop_assert!(!matches!(route, Err(NoRoute::Redirected { .. })), "{:?}", route);
            }
        }
    }

    #[test]
    fn an_explanation_tells_the_route_and_a_way_without_gaps(tree in any_tree()) {
        for &one in tree.functions.keys() {
            for &other in tree.functions.keys() {
                let initiator = Initiator::Pci(other);
                let report = tree.explain(one, &initiator);
                let verdict = match tree.route(one, &initiator) {
                    Ok(route) => Verdict::Accepted(route),
                    Err(refusal) => Verdict::Refused(refusal),
                };
                prop_assert_eq!(&report.verdict, &verdict);
                prop_assert_eq!(report.distance, tree.distance(one, other));
                let meet = match report.turn {
                    Some(Turn::Function(meet)) => Some(meet),
                    _ => None,
                };
                // Every function is the parent of the one after it on the way down, and so in reverse on the way up.
                let parent = |address: &PciAddress| tree.functions[address].upstream.last().copied();
                let (up, down) = (report.up.iter(), report.down.iter().rev());
                for (side, end) in [(up.collect::<Vec<_>>(), one), (down.collect(), other)] {
                    prop_assert_eq!(side.first().map_or(meet, |first| Some(**first)), Some(end));
                    for (i, function) in side.iter().enumerate() {
                        prop_assert_eq!(parent(function), side.get(i + 1).map_or(meet, |next| Some(**next)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_tree_survives_recording(tree in any_tree()) {
        let json = serde_json::to_string(&tree).unwrap();
        prop_assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), tree);
    }
}
