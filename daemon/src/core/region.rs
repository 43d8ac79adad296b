//! Regions, as the core keeps them.

use std::collections::BTreeSet;

use peermem_proto::{
    ByteLen, Generation, LeaseId, Method, PciAddress, ProviderKind, Region, RegionName, Revocation, Shape,
    Sharing,
};

use super::SessionId;

/// What a provider offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionSpec {
    /// Its name.
    pub name: RegionName,
    /// Where the memory comes from.
    pub provider: ProviderKind,
    /// The PCI function that owns it; `None` for emulated memory.
    pub device: Option<PciAddress>,
    /// Pool or window.
    pub shape: Shape,
    /// How many bytes may be leased.
    pub size: ByteLen,
    /// Offsets and lengths must be multiples of this; not zero.
    pub alignment: ByteLen,
    /// How a mapping becomes an MR.
    pub method: Method,
    /// What the end of a lease does.
    pub revocation: Revocation,
    /// Who may map it; counts only for regions that a client registered.
    pub sharing: Sharing,
}

/// A region and what is leased of it.
#[derive(Debug)]
pub(super) struct RegionState {
    pub(super) spec: RegionSpec,
    pub(super) generation: Generation,
    /// The session that registered it, and its user.
    pub(super) owner: Option<(SessionId, u32)>,
    /// The sum of the leases' lengths; in a window they may overlap, and the sum isn't bounded by the size.
    pub(super) leased: u128,
    pub(super) leases: BTreeSet<LeaseId>,
}

impl RegionState {
    pub(super) fn new(spec: RegionSpec, generation: Generation, owner: Option<(SessionId, u32)>) -> Self {
        Self { spec, generation, owner, leased: 0, leases: BTreeSet::new() }
    }

    /// What may still be leased.
    pub(super) fn free(&self) -> ByteLen {
        match self.spec.shape {
            Shape::Window => self.spec.size,
            // A pool never leases more than it has, so the sum fits.
            Shape::Pool => {
                self.spec.size.saturating_sub(ByteLen::new(u64::try_from(self.leased).unwrap_or(u64::MAX)))
            }
        }
    }

    /// As it is listed.
    pub(super) fn describe(&self) -> Region {
        let spec = &self.spec;
        Region {
            name: spec.name.clone(),
            generation: self.generation,
            provider: spec.provider,
            device: spec.device,
            shape: spec.shape,
            size: spec.size,
            free: self.free(),
            leases: self.leases.len() as u64,
            alignment: spec.alignment,
            method: spec.method,
            revocation: spec.revocation,
            emulated: spec.provider == ProviderKind::Emulated,
            owner_uid: self.owner.map(|(_, uid)| uid),
        }
    }
}
