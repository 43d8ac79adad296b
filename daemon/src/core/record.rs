//! What must be remembered over a restart.
//!
//! A record says how a thing is now, not what happened to it, so the last record about a thing is all that counts, and a
//! snapshot of the state is made of the same records as its history.

use std::collections::BTreeMap;

use peermem_proto::{Generation, Lease, LeaseId, RegionName};
use serde::{Deserialize, Serialize};

use super::{Client, MemoryId, RegionSpec};

/// One thing to remember. Its kind is the only key of an object: with a tag inside, serde would have to read each record twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A region is like this.
    Region(RegionRecord),
    /// A region is gone.
    RegionGone {
        /// Its name.
        name: RegionName,
    },
    /// A lease is like this.
    Lease(LeaseRecord),
    /// A lease has ended.
    LeaseGone {
        /// Its number.
        id: LeaseId,
    },
    /// The next numbers to give; those of things that are remembered are never given again anyway.
    Next {
        /// To a lease.
        lease: LeaseId,
        /// To a region that appears.
        generation: Generation,
    },
}

/// A region, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// What its provider offered.
    pub spec: RegionSpec,
    /// Which appearance it is.
    pub generation: Generation,
    /// Who registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Client>,
}

/// A lease, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The lease.
    pub lease: Lease,
    /// Whose it is.
    pub client: Client,
    /// What its descriptor leads to.
    pub memory: MemoryId,
}

/// All that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// By name.
    pub regions: BTreeMap<RegionName, RegionRecord>,
    /// By number.
    pub leases: BTreeMap<LeaseId, LeaseRecord>,
    /// The next lease's number.
    pub next_lease: LeaseId,
    /// The next region's generation.
    pub next_generation: Generation,
}

impl Remembered {
    /// Nothing.
    pub fn nothing() -> Self {
        Self {
            regions: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: LeaseId::FIRST,
            next_generation: Generation::FIRST,
        }
    }

    /// What `records`, oldest first, come to.
    pub fn replay(records: impl IntoIterator<Item = Record>) -> Self {
        let mut remembered = Self::nothing();
        records.into_iter().for_each(|record| remembered.add(record));
        remembered
    }

    /// Takes one more record into account.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Region(region) => {
                self.next_generation = self.next_generation.max(region.generation.next());
                self.regions.insert(region.spec.name.clone(), region);
            }
            Record::RegionGone { name } => drop(self.regions.remove(&name)),
            Record::Lease(record) => {
                self.next_lease = self.next_lease.max(record.lease.id.next());
                self.leases.insert(record.lease.id, record);
            }
            Record::LeaseGone { id } => drop(self.leases.remove(&id)),
            Record::Next { lease, generation } => {
                self.next_lease = self.next_lease.max(lease);
                self.next_generation = self.next_generation.max(generation);
            }
        }
    }
}
