//! What there is to give: regions, as devices.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use peermem::proto::{Event, ProviderKind, Region, RegionName};

use crate::api::{Device, HEALTHY, MAX_DEVICE_ID, Node, TopologyInfo, UNHEALTHY};

/// A NUMA node's number; `None` where the kernel names none.
pub type NumaNode = Option<u16>;

/// The regions that pods can be given, as the daemon last said.
///
/// A region that a process registered isn't among them: it is that process's to share, and goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    regions: BTreeMap<RegionName, NumaNode>,
    /// Whether the daemon can be asked for them now.
    reachable: bool,
}

impl Offer {
    /// What the daemon lists. `near` tells which NUMA node a region is near to.
    pub fn of(regions: &[Region], near: impl Fn(&Region) -> NumaNode) -> Self {
        let mut offer = Self { regions: BTreeMap::new(), reachable: true };
        for region in regions {
            offer.add(region, &near);
        }
        offer
    }

    /// Follows an event. Returns whether it changed anything.
    pub fn apply(&mut self, event: &Event, near: impl Fn(&Region) -> NumaNode) -> bool {
        match event {
            Event::RegionAdded { region } => self.add(region, &near),
            Event::RegionGone { name } => self.regions.remove(name).is_some(),
            // What happens to leases changes nothing about what is offered.
            _ => false,
        }
    }

    /// The daemon has gone. Its regions stay known, so that the kubelet keeps counting those that pods have. Returns whether
    /// that is news.
    pub fn lose(&mut self) -> bool {
        std::mem::take(&mut self.reachable)
    }

    /// How many regions there are.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Whether a region can be given.
    pub fn has(&self, region: &RegionName) -> bool {
        self.regions.contains_key(region)
    }

    /// The kubelet's view, in which each region can be given `shares` times. The kubelet gives a device to one container at a
    /// time; the memory itself is divided by leases.
    pub fn devices(&self, shares: NonZeroU32) -> Vec<Device> {
        let health = if self.reachable { HEALTHY } else { UNHEALTHY };
        let of_region = |(name, near): (&RegionName, &NumaNode)| {
            let topology = near.map(|node| TopologyInfo { nodes: vec![Node { id: node.into() }] });
            let device = move |share| Device {
                id: device_id(name, share),
                health: health.to_owned(),
                topology: topology.clone(),
            };
            (0..shares.get())
                .map(device)
                .filter(|device| device.id.len() <= MAX_DEVICE_ID)
                .collect::<Vec<_>>()
        };
        self.regions.iter().flat_map(of_region).collect()
    }

    fn add(&mut self, region: &Region, near: impl Fn(&Region) -> NumaNode) -> bool {
        if region.provider == ProviderKind::Registered {
            return false;
        }
        if device_id(&region.name, 0).len() > MAX_DEVICE_ID {
            tracing::warn!(region = %region.name, "not advertised: the kubelet takes no device id that long");
            return false;
        }
        let near = near(region);
        self.regions.insert(region.name.clone(), near) != Some(near)
    }
}

/// `REGION/SHARE`; no region's name has a slash.
fn device_id(region: &RegionName, share: u32) -> String {
    format!("{region}/{share}")
}

/// The region of a device's id.
pub(crate) fn region_of(device_id: &str) -> Option<RegionName> {
    device_id.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use peermem::proto::{ByteLen, Generation, Method, Revocation, Shape};

    use super::*;

    fn region(name: &str, provider: ProviderKind) -> Region {
        Region {
            name: name.parse().unwrap(),
            generation: Generation::new(1),
            provider,
            device: None,
            shape: Shape::Pool,
            size: ByteLen::new(4096),
            free: ByteLen::new(4096),
            missing: ByteLen::ZERO,
            leases: 0,
            alignment: ByteLen::new(4096),
            method: Method::Pinned,
            revocation: Revocation::Advisory,
            emulated: false,
            owner_uid: None,
        }
    }

    fn ids(offer: &Offer, shares: u32) -> Vec<String> {
        offer.devices(shares.try_into().unwrap()).into_iter().map(|device| device.id).collect()
    }

    #[test]
    fn each_region_is_as_many_devices_as_it_has_shares() {
        let listed = [region("b", ProviderKind::P2pmem), region("a", ProviderKind::Emulated)];
        let offer = Offer::of(&listed, |_| Some(1));
        assert_eq!(ids(&offer, 1), ["a/0", "b/0"]);
        assert_eq!(ids(&offer, 2), ["a/0", "a/1", "b/0", "b/1"]);
        assert_eq!(region_of("b/1"), Some("b".parse().unwrap()));
        let [device, ..] = &offer.devices(1.try_into().unwrap())[..] else { panic!("no device") };
        assert_eq!(device.topology, Some(TopologyInfo { nodes: vec![Node { id: 1 }] }));
    }

    #[test]
    fn what_a_process_registered_is_not_offered() {
        assert_eq!(ids(&Offer::of(&[region("vram", ProviderKind::Registered)], |_| None), 1), [""; 0]);
    }

    #[test]
    fn a_name_too_long_for_the_kubelet_is_left_out() {
        let longest = "x".repeat(61);
        let listed = [longest.clone(), "x".repeat(62)].map(|name| region(&name, ProviderKind::P2pmem));
        let offer = Offer::of(&listed, |_| None);
        assert_eq!(ids(&offer, 1), [format!("{longest}/0")]);
        // Share 10 is a digit longer, and would be too long.
        assert_eq!(ids(&offer, 11).len(), 10);
    }

    #[test]
    fn regions_come_and_go_and_stay_known_while_the_daemon_is_away() {
        let mut offer = Offer::of(&[region("a", ProviderKind::P2pmem)], |_| None);
        let added = Event::RegionAdded { region: region("b", ProviderKind::P2pmem) };
        assert!(offer.apply(&added, |_| None));
        assert!(!offer.apply(&added, |_| None), "the list had it already");
        assert!(offer.apply(&Event::RegionGone { name: "a".parse().unwrap() }, |_| None));
        assert_eq!(ids(&offer, 1), ["b/0"]);
        assert!(offer.lose() && !offer.lose());
        assert_eq!(offer.devices(1.try_into().unwrap())[0].health, UNHEALTHY);
        assert!(offer.has(&"b".parse().unwrap()));
    }
}
