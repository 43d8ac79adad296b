//! Where the cache's items are: a table that readers take as it is, and writers replace.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use peermem_proto::ByteLen;
use rustc_hash::FxHashMap;

use super::{CacheLimits, Key};
use crate::connection::Standing;

/// Something kept, and for whom.
#[derive(Debug)]
pub(super) struct Item<V> {
    key: Key,
    standing: Arc<Standing>,
    size: ByteLen,
    value: V,
    /// Found since the hand last came by.
    used: AtomicBool,
}

impl<V> Item<V> {
    pub(super) fn new(key: Key, standing: Arc<Standing>, size: ByteLen, value: V) -> Self {
        Self { key, standing, size, value, used: AtomicBool::new(false) }
    }

    fn is_for(&self, standing: &Standing) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.standing), standing)
    }
}

type Table<V> = FxHashMap<Key, Arc<Item<V>>>;

/// The items. A change copies the table, which is bounded and costs little beside the registration that caused it.
#[derive(Debug)]
pub(super) struct Shelf<V> {
    table: ArcSwap<Table<V>>,
    order: Mutex<Order<V>>,
    limits: CacheLimits,
}

/// The same items on a ring, for the choice of whom to evict (the clock algorithm: as good as least recently used, while a
/// hit writes at most one byte, and nothing when it isn't the first).
#[derive(Debug)]
struct Order<V> {
    ring: VecDeque<Arc<Item<V>>>,
    bytes: ByteLen,
}

impl<V> Order<V> {
    fn retain(&mut self, keep: impl Fn(&Item<V>) -> bool) {
        self.ring.retain(|item| keep(item));
        self.bytes = self.ring.iter().fold(ByteLen::ZERO, |sum, item| sum.saturating_add(item.size));
    }

    /// Takes out the first that wasn't found since the hand last came by.
    fn evict(&mut self) -> Option<Arc<Item<V>>> {
        loop {
            let item = self.ring.pop_front()?;
            if item.used.swap(false, Ordering::Relaxed) {
                self.ring.push_back(item);
            } else {
                self.bytes = self.bytes.saturating_sub(item.size);
                return Some(item);
            }
        }
    }
}

impl<V> Shelf<V> {
    pub(super) fn new(limits: CacheLimits) -> Self {
        let order = Mutex::new(Order { ring: VecDeque::new(), bytes: ByteLen::ZERO });
        Self { table: ArcSwap::default(), order, limits }
    }

    /// Takes out all that is kept for `standing`; how many those were. Items are dropped outside the lock.
    pub(super) fn remove(&self, standing: &Standing) -> u64 {
        self.retain(|item| !item.is_for(standing))
    }

    pub(super) fn clear(&self) {
        self.retain(|_| false);
    }

    fn retain(&self, keep: impl Fn(&Item<V>) -> bool) -> u64 {
        let mut order = self.lock();
        let before = order.ring.len();
        order.retain(keep);
        let gone = before - order.ring.len();
        let old = self.publish(&order);
        drop((order, old));
        gone as u64
    }

    /// Makes the table what the ring has. The old one is the caller's to drop, outside the lock.
    fn publish(&self, order: &Order<V>) -> Arc<Table<V>> {
        let table = order.ring.iter().map(|item| (item.key, Arc::clone(item))).collect();
        self.table.swap(Arc::new(table))
    }

    /// A panic between two changes leaves the ring whole, and the table is made of it.
    fn lock(&self) -> MutexGuard<'_, Order<V>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Shelf<V> {
    /// What is kept under `key` for `standing`, while that is good.
    pub(super) fn find(&self, key: &Key, standing: &Arc<Standing>) -> Option<V> {
        let table = self.table.load();
        let item = table.get(key).filter(|item| item.is_for(standing))?;
        let value = item.value.clone();
        if !item.used.load(Ordering::Relaxed) {
            item.used.store(true, Ordering::Relaxed);
        }
        // Last, so that nothing comes between it and the answer.
        standing.is_good().then_some(value)
    }

    /// Puts the item there, unless somebody has been quicker: then theirs is the answer. `None` when the right to it has
    /// gone meanwhile. Also tells how many were evicted for it.
    pub(super) fn put(&self, item: Item<V>) -> (Option<V>, u64) {
        let mut order = self.lock();
        // Under the lock, which whoever takes items out for a fallen standing takes after its fall.
        if !item.standing.is_good() {
            return (None, 0);
        }
        let quicker = order.ring.iter().find(|other| other.key == item.key && other.is_for(&item.standing));
        if let Some(quicker) = quicker {
            return (Some(quicker.value.clone()), 0);
        }
        let value = item.value.clone();
        if item.size > self.limits.bytes || self.limits.entries == 0 {
            return (Some(value), 0);
        }
        // The same number in another table of leases.
        order.retain(|other| other.key != item.key);
        let mut evicted = Vec::new();
        while order.ring.len() >= self.limits.entries
            || order.bytes.saturating_add(item.size) > self.limits.bytes
        {
            evicted.extend(order.evict());
        }
        order.bytes = order.bytes.saturating_add(item.size);
        order.ring.push_back(Arc::new(item));
        let old = self.publish(&order);
        drop((order, old));
        (Some(value), evicted.len() as u64)
    }

    #[cfg(test)]
    pub(super) fn holds(&self) -> (usize, ByteLen) {
        let order = self.lock();
        assert_eq!(order.ring.len(), self.table.load().len());
        (order.ring.len(), order.bytes)
    }
}
