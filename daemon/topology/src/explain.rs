//! A pair of devices in full: not only whether, but how, how fast, and why.

use peermem_proto::{Initiator, PciAddress, Route};
use serde::{Deserialize, Serialize};

use crate::{acs::Acs, id::RootBus, link::LinkMode, no_route::NoRoute, reason, snapshot::Snapshot, way::Way};

/// What there is to say about one provider and one initiator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathReport {
    /// The function that has the memory.
    pub provider: PciAddress,
    /// The device that does the DMA.
    pub initiator: Initiator,
    /// The kernel's verdict.
    pub verdict: Verdict,
    /// The verdict's reason in words, with the remedy where there is one.
    pub reason: String,
    /// Hops between the two as the kernel counts them, which is by the shortest way even where that isn't taken;
    /// `None` when the initiator isn't a PCI function.
    pub distance: Option<usize>,
    /// The functions on the way up, from the provider on, without that where it turns. Where the kernel refuses, the
    /// way through the host bridge is shown.
    pub up: Vec<PciAddress>,
    /// Where the way turns; `None` when one of the two isn't there.
    pub turn: Option<Turn>,
    /// The functions on the way down, to the initiator.
    pub down: Vec<PciAddress>,
    /// The slowest link on the way, the one next to the provider if several are; `None` when no link's speed is known.
    pub bottleneck: Option<PathLink>,
    /// The NUMA nodes of the two, where both are known.
    pub numa: Option<NumaNodes>,
    /// The functions on the shortest way whose ACS can't be read: the verdict assumes that they don't redirect.
    pub acs_unreadable: Vec<PciAddress>,
}

/// The kernel's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It lets the two talk, by this route.
    Accepted(Route),
    /// It doesn't.
    Refused(NoRoute),
}

/// Where the way from one device to another turns from up to down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// At the bridge that both are below, or at the device itself.
    Function(PciAddress),
    /// At the host bridge with this root bus.
    HostBridge(RootBus),
    /// It crosses from the provider's host bridge to the initiator's.
    HostBridges(RootBus, RootBus),
    /// In memory: a CPU copies.
    Cpu(RootBus),
}

/// A link between two functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathLink {
    /// The port at its upper end.
    pub above: PciAddress,
    /// The function at its lower end.
    pub below: PciAddress,
    /// How it runs.
    pub current: LinkMode,
    /// The best that both ends can do.
    pub max: LinkMode,
    /// What `current` carries in one direction, in bytes a second, before the headers of packets come off.
    pub bandwidth: u64,
}

/// Where two devices are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaNodes {
    /// The provider's node.
    pub provider: u32,
    /// The initiator's node.
    pub initiator: u32,
}

impl NumaNodes {
    /// Whether the way leads from one socket to another.
    pub const fn differ(self) -> bool {
        self.provider != self.initiator
    }
}

impl Snapshot {
    /// Everything about a pair: [`Snapshot::route`]'s verdict, the way, and what is slow on it.
    pub fn explain(&self, provider: PciAddress, initiator: &Initiator) -> PathReport {
        let verdict = match self.route(provider, initiator) {
            Ok(route) => Verdict::Accepted(route),
            Err(refusal) => Verdict::Refused(refusal),
        };
        let (shortest, taken, turn) = self.ways(provider, initiator, &verdict);
        let acs_unreadable = shortest.iter().flat_map(Way::ports);
        let acs_unreadable: Vec<_> =
            acs_unreadable.filter(|&port| self.acs(port) == Acs::Unreadable).collect();
        let node = |address| self.functions.get(&address)?.details.numa_node;
        PathReport {
            reason: reason::of(&verdict, initiator, taken.as_ref(), &acs_unreadable),
            distance: shortest.map(|way| way.distance()),
            bottleneck: taken.as_ref().and_then(|way| self.bottleneck(way)),
            numa: node(provider)
                .zip(self.function_of(initiator).and_then(node))
                .map(|(provider, initiator)| NumaNodes { provider, initiator }),
            acs_unreadable,
            verdict,
            provider,
            initiator: initiator.clone(),
            turn,
            up: taken.as_ref().map_or_else(Vec::new, |way| way.up.clone()),
            down: taken.map_or_else(Vec::new, |way| way.down),
        }
    }

    /// The shortest way, the one that the traffic takes or would take, and where that one turns.
    fn ways(
        &self,
        provider: PciAddress,
        initiator: &Initiator,
        verdict: &Verdict,
    ) -> (Option<Way>, Option<Way>, Option<Turn>) {
        let Some(from) = self.functions.get(&provider) else { return (None, None, None) };
        if let Verdict::Accepted(Route::Software {}) = verdict {
            let up = Way::through_root((provider, from), (provider, from)).up;
            return (None, Some(Way { up, meet: None, down: Vec::new() }), Some(Turn::Cpu(from.root)));
        }
        let target =
            self.function_of(initiator).and_then(|address| Some((address, self.functions.get(&address)?)));
        let Some((address, to)) = target else { return (None, None, None) };
        let shortest = Way::shortest((provider, from), (address, to));
        let taken = match verdict {
            Verdict::Accepted(Route::BusAddress { .. }) => Way::shortest((provider, from), (address, to)),
            _ => Way::through_root((provider, from), (address, to)),
        };
        let turn = match taken.meet {
            Some(meet) => Turn::Function(meet),
            None if from.root == to.root => Turn::HostBridge(from.root),
            None => Turn::HostBridges(from.root, to.root),
        };
        (Some(shortest), Some(taken), Some(turn))
    }

    fn bottleneck(&self, way: &Way) -> Option<PathLink> {
        let links = way.up.iter().chain(&way.down).filter_map(|&below| self.link_above(below));
        links.min_by_key(|link| link.bandwidth)
    }

    /// The link from a function up to the port above it; `None` for a port inside a switch, a function on a root bus or
    /// of conventional PCI, and where the speed isn't known.
    ///
    /// On the way down from the root, PCI Express functions are in turn the upper end of a link (root port, downstream
    /// port) and the lower end of it (upstream port, endpoint); so their number tells which one this is, and no port type
    /// needs to be read, which would take privileges.
    pub fn link_above(&self, below: PciAddress) -> Option<PathLink> {
        let function = self.functions.get(&below)?;
        let above = *function.upstream.last()?;
        let port = self.functions.get(&above)?;
        let is_express = |bridge| self.functions.get(bridge).is_some_and(|bridge| bridge.express);
        let bridges = function.upstream.iter().filter(|bridge| is_express(bridge)).count();
        if !function.express || !port.express || bridges % 2 == 0 {
            return None;
        }
        let link = function.details.link?;
        let max = port.details.link.map_or(link.max, |port| port.max.common(link.max));
        let current = link.current?;
        Some(PathLink { above, below, current, max, bandwidth: current.bandwidth() })
    }
}
