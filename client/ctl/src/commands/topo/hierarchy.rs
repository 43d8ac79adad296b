//! The hierarchy as people look at it: the devices that matter, the bridges above them, and a count of all others.

use std::collections::{BTreeMap, BTreeSet};

use peermem::proto::{PciAddress, RdmaName};
use peermem_topology::{Attachment, Function, PathReport, RootBus, Snapshot};

use super::words;

/// Buses are numbered with 8 bits, so that no honest hierarchy is deeper.
const DEEPEST: usize = 256;

/// What a node stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Root(RootBus),
    Function(PciAddress),
    /// Beside all buses: where a CPU moves the bytes.
    Software,
    Rdma(RdmaName),
}

/// A node, with what there is to say about it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    /// Where it is: its address.
    pub(super) address: String,
    /// What it is.
    pub(super) kind: String,
    /// What the devices at it are called.
    pub(super) names: String,
    /// What is worth a remark, most important first.
    pub(super) remarks: Vec<String>,
    pub(super) children: Vec<Node>,
    /// How many functions below are left out.
    others: usize,
}

impl Node {
    /// How many functions below are left out, in words.
    pub(super) fn others(&self) -> Option<String> {
        match self.others {
            0 => None,
            1 => Some("1 other function".to_owned()),
            others => Some(format!("{others} other functions")),
        }
    }
}

/// One node for each root bus, and one for what is on none.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) roots: Vec<Node>,
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    below: BTreeMap<Place, Vec<(PciAddress, &'a Function)>>,
    /// The functions that are shown with all bridges above them.
    shown: BTreeSet<PciAddress>,
}

impl Hierarchy {
    /// All that give memory or do DMA, and the functions of `pair`.
    pub(super) fn new(snapshot: &Snapshot, pair: Option<&PathReport>) -> Self {
        let of_pair = pair.into_iter().flat_map(|pair| pair.up.iter().chain(&pair.down)).copied();
        let shown: BTreeSet<PciAddress> = snapshot
            .providers()
            .into_keys()
            .chain(snapshot.initiators().iter().filter_map(|initiator| snapshot.function_of(initiator)))
            .chain(
                snapshot.functions.keys().copied().filter(|&address| !snapshot.names_at(address).is_empty()),
            )
            .chain(of_pair)
            .collect();
        let mut below: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (&address, function) in &snapshot.functions {
            // A bridge that went meanwhile leaves its functions on the root bus.
            let bridge = function.upstream.last().filter(|bridge| snapshot.functions.contains_key(bridge));
            let parent = bridge.map_or(Place::Root(function.root), |bridge| Place::Function(*bridge));
            below.entry(parent).or_default().push((address, function));
        }
        let builder = Builder { snapshot, below, shown };
        let roots: BTreeSet<_> = snapshot.functions.values().map(|function| function.root).collect();
        let mut roots: Vec<_> = roots.into_iter().map(|root| builder.root(root)).collect();
        roots.retain(|root| !root.children.is_empty());
        roots.extend(software(snapshot));
        Self { roots }
    }
}

impl Builder<'_> {
    fn root(&self, root: RootBus) -> Node {
        let first = self.snapshot.functions.values().find(|function| function.root == root);
        let node = first.and_then(|function| function.details.numa_node);
        let place = Place::Root(root);
        let (children, others) = self.children(&place, 0);
        Node {
            place,
            address: format!("root bus {root}"),
            kind: first.map_or_else(String::new, |function| format!("host bridge {}", function.id)),
            names: String::new(),
            remarks: node.map(|node| format!("NUMA node {node}")).into_iter().collect(),
            children,
            others,
        }
    }

    /// The nodes below a place that are shown, and how many functions there aren't.
    fn children(&self, place: &Place, depth: usize) -> (Vec<Node>, usize) {
        let (mut nodes, mut others) = (Vec::new(), 0);
        if depth > DEEPEST {
            return (nodes, others);
        }
        for &(address, function) in self.below.get(place).into_iter().flatten() {
            let place = Place::Function(address);
            let (children, folded) = self.children(&place, depth + 1);
            if children.is_empty() && !self.shown.contains(&address) {
                others += folded + 1;
                continue;
            }
            nodes.push(Node {
                place,
                address: address.to_string(),
                kind: words::kind(self.snapshot, address, function).to_owned(),
                names: self.snapshot.names_at(address).join(" "),
                remarks: words::remarks(self.snapshot, address, function),
                children,
                others: folded,
            });
        }
        (nodes, others)
    }
}

fn software(snapshot: &Snapshot) -> Option<Node> {
    let devices =
        snapshot.rdma.iter().filter(|(_, attachment)| !matches!(attachment, Attachment::Pci { .. }));
    let children: Vec<_> = devices
        .map(|(name, attachment)| {
            let network = snapshot.networks.get(name);
            let netdevs = network.into_iter().flat_map(|network| &network.netdevs);
            Node {
                place: Place::Rdma(name.clone()),
                address: name.to_string(),
                kind: match attachment {
                    Attachment::Software {} => "software: a CPU copies",
                    _ => "on another bus",
                }
                .to_owned(),
                names: String::new(),
                remarks: netdevs.map(ToString::to_string).collect(),
                children: Vec::new(),
                others: 0,
            }
        })
        .collect();
    (!children.is_empty()).then(|| Node {
        place: Place::Software,
        address: "not on PCI".to_owned(),
        kind: String::new(),
        names: String::new(),
        remarks: Vec::new(),
        children,
        others: 0,
    })
}
