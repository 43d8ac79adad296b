//! What one user may hold, whatever the policy says.

use std::{collections::BTreeMap, time::Duration};

use peermem_proto::{ByteLen, Refusal};

/// The bounds of the config's `[limits]` that the core keeps. Root isn't bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Leases of one user, over all of its connections.
    pub leases_per_user: u64,
    /// Leased bytes of one user, those of shared windows counted once a lease.
    pub bytes_per_user: ByteLen,
    /// Descriptors that the daemon keeps for one user: registered dma-bufs, and memory that waits behind tokens.
    pub descriptors_per_user: u64,
    /// How long the client of a revoked lease may take to let go before it is overdue.
    pub revoke_grace: Duration,
    /// How long clients may take to come back after a restart.
    pub resume_grace: Duration,
}

/// What one user holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Leases, those that are being carved included.
    pub leases: u64,
    /// Their bytes.
    pub bytes: u128,
    /// Descriptors that the daemon keeps for the user.
    pub descriptors: u64,
}

/// What every user holds.
#[derive(Debug, Default)]
pub(super) struct Users(BTreeMap<u32, Held>);

impl Users {
    pub(super) fn of(&self, uid: u32) -> Held {
        self.0.get(&uid).copied().unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u32, Held)> {
        self.0.iter().map(|(uid, held)| (*uid, *held))
    }

    /// Changes what a user holds. A user who holds nothing costs nothing.
    pub(super) fn change(&mut self, uid: u32, change: impl FnOnce(&mut Held)) {
        let held = self.0.entry(uid).or_default();
        change(held);
        if *held == Held::default() {
            self.0.remove(&uid);
        }
    }
}

impl Limits {
    pub(super) fn check_lease(&self, uid: u32, held: Held, length: ByteLen) -> Result<(), Refusal> {
        within(uid, "leases", "leases_per_user", held.leases + 1, self.leases_per_user)?;
        let bytes = held.bytes + u128::from(length.get());
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        within(uid, "leased bytes", "bytes_per_user", bytes, self.bytes_per_user.get())
    }

    pub(super) fn check_descriptor(&self, uid: u32, held: Held) -> Result<(), Refusal> {
        within(
            uid,
            "kept descriptors",
            "descriptors_per_user",
            held.descriptors + 1,
            self.descriptors_per_user,
        )
    }
}

/// Refuses what would be more than `limit`, unless the user is root.
pub fn within(uid: u32, what: &str, key: &str, would_hold: u64, limit: u64) -> Result<(), Refusal> {
    if uid == 0 || would_hold <= limit {
        return Ok(());
    }
    Err(Refusal::LimitReached { what: format!("{what} of user {uid}"), key: key.to_owned(), limit })
}
