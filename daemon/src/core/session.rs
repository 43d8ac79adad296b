//! Sessions: who is connected, and what they hold.

use std::collections::BTreeSet;

use peermem_proto::{LeaseId, Owner, Refusal, RegionName};

/// What one user or one connection may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Leases of one user, over all of its connections. Root isn't bound.
    pub leases_per_user: u64,
    /// Regions that one connection may register.
    pub regions_per_connection: u64,
}

impl Limits {
    pub(super) fn check_leases(&self, owner: Owner, held: u64) -> Result<(), Refusal> {
        if owner.uid == 0 || held < self.leases_per_user {
            return Ok(());
        }
        Err(Refusal::LimitReached {
            what: format!("leases of user {}", owner.uid),
            key: "leases_per_user".to_owned(),
            limit: self.leases_per_user,
        })
    }

    pub(super) fn check_regions(&self, held: usize) -> Result<(), Refusal> {
        if (held as u64) < self.regions_per_connection {
            return Ok(());
        }
        Err(Refusal::LimitReached {
            what: "regions of one connection".to_owned(),
            key: "regions_per_connection".to_owned(),
            limit: self.regions_per_connection,
        })
    }
}

/// One connection and what it holds.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) owner: Owner,
    pub(super) leases: BTreeSet<LeaseId>,
    pub(super) regions: BTreeSet<RegionName>,
}

impl Session {
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner, leases: BTreeSet::new(), regions: BTreeSet::new() }
    }
}
