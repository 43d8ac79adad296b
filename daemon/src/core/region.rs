//! Regions, as the core keeps them.

use std::{collections::BTreeSet, sync::Arc};

use peermem_proto::{
    ByteLen, Generation, LeaseId, Method, PciAddress, ProviderKind, Region, RegionName, Revocation, Shape,
    Sharing,
};
use serde::{Deserialize, Serialize};

use super::{Client, SessionId};

/// What a provider offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionSpec {
    /// Its name.
    pub name: RegionName,
    /// Where the memory comes from.
    pub provider: ProviderKind,
    /// The PCI function that owns it; `None` for emulated memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PciAddress>,
    /// Tells this appearance of the memory from an earlier one of the same name, such as that of a drive before it was
    /// unplugged. 0 where the provider has nothing to tell them by.
    pub incarnation: u64,
    /// Pool or window.
    pub shape: Shape,
    /// How many bytes may be leased.
    pub size: ByteLen,
    /// On which terms, where it is a part of memory that others take from too. What leases have of it isn't in `size` after a
    /// restart, which finds it taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Offsets and lengths must be multiples of this; not zero.
    pub alignment: ByteLen,
    /// How a mapping becomes an MR.
    pub method: Method,
    /// What the end of a lease does.
    pub revocation: Revocation,
    /// Who may map it; counts only for regions that a client registered.
    pub sharing: Sharing,
    /// When the memory of an ended lease can be leased again.
    pub returns: Returns,
}

impl RegionSpec {
    /// The device that gives its memory back only as a whole, if it is like that: revoking one lease revokes its neighbours.
    pub fn gives_back_as_a_whole(&self) -> Option<PciAddress> {
        self.device.filter(|_| self.provider == ProviderKind::Vfio)
    }

    /// Whether this is the memory that `earlier` was, seen before a restart of the daemon.
    pub fn is_still(&self, earlier: &Self) -> bool {
        (&self.name, self.provider, self.device, self.incarnation, self.shape)
            == (&earlier.name, earlier.provider, earlier.device, earlier.incarnation, earlier.shape)
    }

    /// The size of this memory, which `earlier` was, while leases of the living have `leased` bytes of it. Only of a share is that
    /// asked for.
    pub(super) fn size_after(&self, earlier: &Self, leased: impl FnOnce() -> ByteLen) -> ByteLen {
        let Some(Share { most, .. }) = self.share else { return self.size };
        let leased = leased();
        // On the terms of before, what is missing from it now is with leases, or on its way back from them. Where there is more, others
        // had it then, unless leases that aren't mapped yet are among it.
        if (self.share, self.returns) == (earlier.share, earlier.returns) {
            return if leased.is_zero() { earlier.size.max(self.size) } else { earlier.size };
        }
        let with_leases = self.size.saturating_add(leased);
        most.map_or(with_leases, |most| with_leases.min(most)).max(leased)
    }
}

/// On which terms a region is a part of memory that others take from too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// It has no more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<ByteLen>,
    /// That much isn't its.
    pub leave: ByteLen,
}

/// When the memory of an ended lease can be leased again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returns {
    /// With the lease's end.
    AtOnce,
    /// When the provider has it back, which it reports by [`super::Input::Recovered`]: until then the client's mapping or
    /// descriptor keeps it, or it is being zeroed.
    InItsTime,
}

/// The client that registered a region.
#[derive(Debug, Clone)]
pub(super) struct RegionOwner {
    /// Its connection; `None` after a restart, until it has come back.
    pub(super) session: Option<SessionId>,
    pub(super) client: Arc<Client>,
}

/// A region and what is leased of it.
#[derive(Debug)]
pub(super) struct RegionState {
    pub(super) spec: RegionSpec,
    pub(super) generation: Generation,
    pub(super) owner: Option<RegionOwner>,
    /// The sum of the leases' lengths; in a window they may overlap, and the sum isn't bounded by the size.
    pub(super) leased: u128,
    /// Bytes that nobody leases and that the provider hasn't back.
    pub(super) missing: ByteLen,
    pub(super) leases: BTreeSet<LeaseId>,
}

impl RegionState {
    pub(super) fn new(spec: RegionSpec, generation: Generation, owner: Option<RegionOwner>) -> Self {
        Self { spec, generation, owner, leased: 0, missing: ByteLen::ZERO, leases: BTreeSet::new() }
    }

    /// What may still be leased.
    pub(super) fn free(&self) -> ByteLen {
        match self.spec.shape {
            Shape::Window => self.spec.size,
            // A pool never leases more than it has, so the sum fits.
            Shape::Pool => {
                let leased = ByteLen::new(u64::try_from(self.leased).unwrap_or(u64::MAX));
                self.spec.size.saturating_sub(leased).saturating_sub(self.missing)
            }
        }
    }

    /// Whether `session` has registered it.
    pub(super) fn is_owned_by(&self, session: SessionId) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.session == Some(session))
    }

    pub(super) fn owner_uid(&self) -> Option<u32> {
        self.owner.as_ref().map(|owner| owner.client.owner.uid)
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
            missing: self.missing,
            leases: self.leases.len() as u64,
            alignment: spec.alignment,
            method: spec.method,
            revocation: spec.revocation,
            emulated: spec.provider == ProviderKind::Emulated,
            owner_uid: self.owner_uid(),
        }
    }
}
