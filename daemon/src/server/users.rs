//! What a user's connections cost the daemon, and the bounds of it. What a user *holds* is the core's matter.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peermem_proto::Refusal;

use crate::{config::Connections, core::within};

/// What one user has going.
#[derive(Debug)]
struct User {
    connections: u64,
    watchers: u64,
    /// Requests that the user may make at once; negative: how many are waiting for their turn.
    allowance: f64,
    /// When `allowance` was right.
    counted: Instant,
}

impl User {
    fn allowance_at(&self, now: Instant, rate: f64) -> f64 {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        (self.allowance + passed * rate).min(rate)
    }
}

/// How many users are known before those who have gone are forgotten.
const SWEEP_FROM: usize = 256;

/// Every user who is connected, or was lately.
#[derive(Debug)]
pub(super) struct Users {
    bounds: Connections,
    users: BTreeMap<u32, User>,
}

impl Users {
    pub(super) fn new(bounds: Connections) -> Self {
        Self { bounds, users: BTreeMap::new() }
    }

    pub(super) fn bounds(&self) -> Connections {
        self.bounds
    }

    /// New bounds, for what comes.
    pub(super) fn set_bounds(&mut self, bounds: Connections) {
        self.bounds = bounds;
    }

    /// Counts a connection, unless the user has too many.
    pub(super) fn connect(&mut self, uid: u32, now: Instant) -> Result<(), Refusal> {
        self.sweep(now);
        let held = self.users.get(&uid).map_or(0, |user| user.connections);
        within(uid, "connections", "connections_per_user", held + 1, self.bounds.per_user)?;
        let fresh = || User {
            connections: 0,
            watchers: 0,
            allowance: per_second(self.bounds.requests_per_second),
            counted: now,
        };
        self.users.entry(uid).or_insert_with(fresh).connections += 1;
        Ok(())
    }

    /// A connection is over. The user stays known for a while: a new connection brings no new allowance.
    pub(super) fn disconnect(&mut self, uid: u32) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.connections -= 1;
        }
    }

    /// Forgets users who have gone and whose allowance is full again, now and then.
    fn sweep(&mut self, now: Instant) {
        let rate = per_second(self.bounds.requests_per_second);
        if self.users.len() >= SWEEP_FROM {
            self.users.retain(|_, user| user.connections > 0 || user.allowance_at(now, rate) < rate);
        }
    }

    /// Counts a watcher, unless the user has too many. It goes with [`Self::unwatch`].
    pub(super) fn watch(&mut self, uid: u32) -> Result<(), Refusal> {
        let held = self.users.get(&uid).map_or(0, |user| user.watchers);
        within(uid, "watchers", "watchers_per_user", held + 1, self.bounds.watchers_per_user)?;
        if let Some(user) = self.users.get_mut(&uid) {
            user.watchers += 1;
        }
        Ok(())
    }

    /// A watcher is gone.
    pub(super) fn unwatch(&mut self, uid: u32) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.watchers -= 1;
        }
    }

    /// How many watch.
    pub(super) fn watchers(&self) -> u64 {
        self.users.values().map(|user| user.watchers).sum()
    }

    /// Counts a request, and says how long it must wait so that the user keeps to the requests of a second. Root isn't bound.
    ///
    /// A token bucket that holds one second's worth. Requests that wait have their turn already, so that several
    /// connections of one user can't take more than one.
    pub(super) fn request(&mut self, uid: u32, now: Instant) -> Option<Duration> {
        let rate = per_second(self.bounds.requests_per_second);
        let user = self.users.get_mut(&uid).filter(|_| uid != 0)?;
        user.allowance = user.allowance_at(now, rate) - 1.0;
        user.counted = now;
        (user.allowance < 0.0).then(|| Duration::from_secs_f64(-user.allowance / rate))
    }
}

/// Exact up to 2^53 requests.
#[allow(clippy::cast_precision_loss)]
fn per_second(requests: u64) -> f64 {
    requests as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(requests_per_second: u64) -> Users {
        let bounds = Connections {
            per_user: 2,
            watchers_per_user: 1,
            requests_per_second,
            stall: Duration::ZERO,
            drain: Duration::ZERO,
        };
        Users::new(bounds)
    }

    #[test]
    fn a_user_has_a_second_of_requests_and_then_waits_for_each() {
        let (mut users, start) = (users(10), Instant::now());
        users.connect(1, start).unwrap();
        for _ in 0..10 {
            assert_eq!(users.request(1, start), None);
        }
        assert_eq!(users.request(1, start), Some(Duration::from_millis(100)));
        assert_eq!(
            users.request(1, start),
            Some(Duration::from_millis(200)),
            "each waits behind the one before"
        );
        let later = start + Duration::from_secs(10);
        for _ in 0..10 {
            assert_eq!(users.request(1, later), None, "a pause gives back a second's worth, and no more");
        }
        assert!(users.request(1, later).is_some());
    }

    #[test]
    fn root_waits_for_nothing_and_strangers_don_t_pay_for_each_other() {
        let (mut users, now) = (users(1), Instant::now());
        for uid in [0, 1, 2] {
            users.connect(uid, now).unwrap();
        }
        assert_eq!(users.request(1, now), None);
        assert!(users.request(1, now).is_some());
        assert_eq!(users.request(2, now), None);
        assert!((0..1000).all(|_| users.request(0, now).is_none()));
    }

    #[test]
    fn connections_and_watchers_are_counted_back() {
        let (mut users, now) = (users(1), Instant::now());
        users.connect(1, now).unwrap();
        users.connect(1, now).unwrap();
        let refused = users.connect(1, now).unwrap_err();
        assert!(
            matches!(refused, Refusal::LimitReached { key, limit: 2, .. } if key == "connections_per_user")
        );
        users.watch(1).unwrap();
        assert!(users.watch(1).is_err());
        users.unwatch(1);
        users.watch(1).unwrap();
        assert_eq!(users.watchers(), 1);
        users.disconnect(1);
        users.connect(1, now).unwrap();
    }

    #[test]
    fn a_new_connection_brings_no_new_allowance_and_old_users_are_forgotten() {
        let (mut users, now) = (users(1), Instant::now());
        for _ in 0..3 {
            users.connect(1, now).unwrap();
            users.request(1, now);
            users.disconnect(1);
        }
        users.connect(1, now).unwrap();
        assert!(users.request(1, now) > Some(Duration::from_secs(2)));
        for uid in 2..1000 {
            users.connect(uid, now).unwrap();
            users.disconnect(uid);
        }
        assert!(users.users.len() < 2 * SWEEP_FROM, "{} users are kept", users.users.len());
    }
}
