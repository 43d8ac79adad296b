//! Points in time that survive a restart of the daemon and mean the same to every process of the node.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Milliseconds of `CLOCK_BOOTTIME`: it counts from the boot on, also while the machine sleeps, and nobody can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// That many milliseconds after the boot.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment that is `delay` later; the last one there is, if that is later still.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to this moment; nothing if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s after the boot", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_stop_at_the_ends_of_time() {
        let last = Moment::from_millis(u64::MAX);
        assert_eq!(last.after(Duration::from_secs(1)), last);
        assert_eq!(Moment::from_millis(1).after(Duration::MAX), last);
        assert_eq!(Moment::from_millis(1).since(Moment::from_millis(5)), Duration::ZERO);
        assert_eq!(Moment::from_millis(5001).since(Moment::from_millis(1)), Duration::from_secs(5));
    }
}
