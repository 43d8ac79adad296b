//! Memory regions of leases, registered once and used often.
//!
//! ```text
//! register(lease, pd, access) ── found, and the lease stands ──► the region            no lock, no system call
//!          │ not found                                             ▲
//!          └── Lease::register ── put under the lock, if the lease still stands
//!
//! revoked, lost, given back ── Standing::fall ──► every cache lets go of the lease's regions
//! ```
//!
//! **Invariant:** a look-up that begins after this process has been told of the lease's end finds nothing. Being told sets
//! the lease's [`Standing`] before anything else happens, and a hit looks at it after it has found the region. Lease
//! numbers of another daemon's table can't be mistaken either: a hit is for one `Standing`, not for one number.

mod shelf;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use peermem_proto::{ByteLen, Generation, LeaseId};

use self::shelf::{Item, Shelf};
use crate::{
    Connection, Lease, RegistrationError,
    connection::{Dependent, Standing},
    verbs::{Access, MemoryRegion, ProtectionDomain},
};

/// How much a cache keeps registered. What callers still hold of it counts no longer once it has been evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Memory regions.
    pub entries: usize,
    /// Their bytes together. A region that is longer is registered and not kept.
    pub bytes: ByteLen,
}

impl Default for CacheLimits {
    /// 1,024 regions, 64 GiB: about a node's worth of device memory.
    fn default() -> Self {
        Self { entries: 1024, bytes: ByteLen::new(64 << 30) }
    }
}

/// What a cache has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Answered without a registration.
    pub hits: u64,
    /// Answered with one, or not at all.
    pub misses: u64,
    /// Let go to make room.
    pub evictions: u64,
    /// Let go because the right to the lease had gone.
    pub invalidations: u64,
}

/// Memory regions by lease, protection domain and access. Clones share it.
///
/// What it returns is the caller's to keep as any memory region: the cache's letting go deregisters it only when the last
/// `Arc` is dropped. Where revocation is advisory, the caller lets go of its own.
#[derive(Debug, Clone, Default)]
pub struct MrCache {
    cache: Arc<Cache<Arc<MemoryRegion>>>,
}

impl MrCache {
    /// An empty one.
    pub fn new(limits: CacheLimits) -> Self {
        Self { cache: Arc::new(Cache::new(limits)) }
    }

    /// As [`Lease::register`], by a region that this did before where there is one.
    ///
    /// # Errors
    /// Those of [`Lease::register`].
    pub fn register<C: Connection>(
        &self,
        lease: &Lease<C>,
        pd: &Arc<ProtectionDomain>,
        access: Access,
    ) -> Result<Arc<MemoryRegion>, RegistrationError> {
        let (id, generation) = lease.identity();
        // A domain's address is its own as long as an item here keeps it alive.
        let key = Key { lease: id, generation, domain: Arc::as_ptr(pd).addr(), access };
        self.cache
            .find_or_make(key, lease.standing(), |region| region.len(), || lease.register(pd, access))
            .and_then(|found| found.ok_or(RegistrationError::Revoked { lease: id }))
    }

    /// Lets go of every region.
    pub fn clear(&self) {
        self.cache.shelf.clear();
    }

    /// What it has done.
    pub fn counts(&self) -> CacheCounts {
        self.cache.counts.read()
    }
}

/// What a region is kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    lease: LeaseId,
    generation: Generation,
    domain: usize,
    access: Access,
}

/// The cache, whatever it keeps.
#[derive(Debug)]
struct Cache<V> {
    shelf: Shelf<V>,
    counts: Counts,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self::new(CacheLimits::default())
    }
}

impl<V: Clone + Send + Sync + std::fmt::Debug + 'static> Cache<V> {
    /// What is there under `key`, or else what `make` makes; `None` when the right went while it was made.
    fn find_or_make<E>(
        self: &Arc<Self>,
        key: Key,
        standing: &Arc<Standing>,
        size: impl FnOnce(&V) -> ByteLen,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Option<V>, E> {
        if let Some(found) = self.shelf.find(&key, standing) {
            self.counts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(found));
        }
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        let made = make()?;
        let dependent: Weak<Self> = Arc::downgrade(self);
        if !standing.tell(dependent) {
            return Ok(None);
        }
        let item = Item::new(key, Arc::clone(standing), size(&made), made);
        let (kept, evicted) = self.shelf.put(item);
        self.counts.evictions.fetch_add(evicted, Ordering::Relaxed);
        Ok(kept)
    }
}

impl<V> Cache<V> {
    fn new(limits: CacheLimits) -> Self {
        Self { shelf: Shelf::new(limits), counts: Counts::default() }
    }
}

impl<V: Send + Sync + std::fmt::Debug> Dependent for Cache<V> {
    fn let_go(&self, of: &Standing) {
        let gone = self.shelf.remove(of);
        self.counts.invalidations.fetch_add(gone, Ordering::Relaxed);
    }
}

/// [`CacheCounts`], counting.
#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    invalidations: AtomicU64,
}

impl Counts {
    fn read(&self) -> CacheCounts {
        let Self { hits, misses, evictions, invalidations } = self;
        let [hits, misses, evictions, invalidations] =
            [hits, misses, evictions, invalidations].map(|count| count.load(Ordering::Relaxed));
        CacheCounts { hits, misses, evictions, invalidations }
    }
}
