//! The kernel's verdict on a pair of devices: `calc_map_type_and_dist` in `drivers/pci/p2pdma.c`, Linux 7.3.

use peermem_proto::{Initiator, PciAddress, Route};

use crate::{
    acs::Acs,
    function::Function,
    host_bridges::{Reach, listed},
    id::{PciId, RootBus},
    no_route::{HostBridgeRefusal, NoRoute},
    snapshot::{Attachment, Snapshot},
    way::Way,
};

impl Snapshot {
    /// The route that the kernel will let `initiator` take to memory of `provider`.
    ///
    /// The kernel never treats a device that isn't on PCI as a peer: for rxe, siw and [`Initiator::Emulated`] a CPU
    /// copies. A port whose ACS can't be read counts as one that doesn't redirect, and the route says so
    /// (`acs_checked: false`). Where traffic crosses two host bridges, the route names both: `0000:00 and 0000:80`.
    ///
    /// # Errors
    /// [`NoRoute`], which says what stands between the two and what to do.
    pub fn route(&self, provider: PciAddress, initiator: &Initiator) -> Result<Route, NoRoute> {
        let unknown = || NoRoute::UnknownInitiator(initiator.clone());
        let from = self.functions.get(&provider).ok_or(NoRoute::UnknownProvider(provider))?;
        let client = match initiator {
            Initiator::Emulated => return Ok(Route::Software {}),
            Initiator::Pci(address) => *address,
            Initiator::Vfio(address) => match self.functions.get(address) {
                None => return Err(unknown()),
                // The IOMMU is told what to let through, and the kernel has no say in what devices of user space do.
                Some(Function { no_iommu_group: None, .. }) => return Ok(Route::Iommu {}),
                // What it emits goes the way of anybody's requests: what the kernel doesn't trust isn't better for it.
                Some(_) => *address,
            },
            Initiator::Rdma(name) => match self.rdma.get(name).ok_or_else(unknown)? {
                Attachment::Pci { address } => *address,
                Attachment::Software {} => return Ok(Route::Software {}),
                Attachment::Other {} => return Err(NoRoute::NotPci(name.clone())),
            },
        };
        let to = self.functions.get(&client).ok_or_else(unknown)?;

        let way = Way::shortest((provider, from), (client, to));
        let ports = way.ports();
        let redirecting: Vec<_> = ports.iter().copied().filter(|&port| self.acs(port).redirects()).collect();
        if way.meet.is_some() && redirecting.is_empty() {
            let acs_checked = ports.iter().all(|&port| self.acs(port) != Acs::Unreadable);
            return Ok(Route::BusAddress { acs_checked });
        }
        match self.through_host_bridge(from.root, to.root) {
            Ok(bridge) => Ok(Route::HostBridge { bridge, redirected_by: redirecting }),
            Err(refusal) if way.meet.is_some() => Err(NoRoute::Redirected { ports: redirecting, refusal }),
            Err(refusal) => Err(NoRoute::HostBridge(refusal)),
        }
    }

    /// Hops between two functions as the kernel counts them: 0 to itself, 2 between functions of one device, 4 below
    /// one switch. Functions that meet in no bridge are as far apart as both are deep. `None` when one isn't there.
    pub fn distance(&self, one: PciAddress, other: PciAddress) -> Option<usize> {
        let (from, to) = (self.functions.get(&one)?, self.functions.get(&other)?);
        Some(Way::shortest((one, from), (other, to)).distance())
    }

    pub(crate) fn acs(&self, port: PciAddress) -> Acs {
        self.functions.get(&port).map_or(Acs::Unreadable, |function| function.acs)
    }

    /// The host bridges that the traffic crosses, in words, when the kernel lets it.
    fn through_host_bridge(
        &self,
        provider: RootBus,
        initiator: RootBus,
    ) -> Result<String, HostBridgeRefusal> {
        if !self.cpu.as_ref().is_some_and(|cpu| cpu.passes_peer_to_peer()) {
            self.host_bridge_listed(provider, initiator)?;
            self.host_bridge_listed(initiator, provider)?;
        }
        Ok(if provider == initiator { provider.to_string() } else { format!("{provider} and {initiator}") })
    }

    /// `__host_bridge_whitelist` in `drivers/pci/p2pdma.c`.
    fn host_bridge_listed(&self, root: RootBus, other: RootBus) -> Result<(), HostBridgeRefusal> {
        let first_device = self.first_device(root).ok_or(HostBridgeRefusal::Unidentified { root })?;
        match listed(first_device) {
            Some(Reach::Anywhere) => Ok(()),
            Some(Reach::SameBridge) if root == other => Ok(()),
            Some(Reach::SameBridge) => Err(HostBridgeRefusal::SameBridgeOnly { root, first_device, other }),
            None => Err(HostBridgeRefusal::Unlisted { root, first_device }),
        }
    }

    /// The device by which the kernel knows a host bridge, `pci_host_bridge_dev` in `drivers/pci/p2pdma.c`: the first
    /// on its root bus, if that is device 00.0 or a root port.
    fn first_device(&self, root: RootBus) -> Option<PciId> {
        let on_root_bus = |function: &Function| function.root == root && function.upstream.is_empty();
        let (address, first) = self.functions.iter().find(|(_, function)| on_root_bus(function))?;
        let is_00_0 = address.device() == 0 && address.function() == 0;
        (is_00_0 || first.is_root_port()).then_some(first.id)
    }
}
