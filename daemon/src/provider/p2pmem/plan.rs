//! How much of its pool a device gives up to the daemon.

use std::str::FromStr;

use peermem_proto::ByteLen;

use super::pool::{page, whole_pages};
use crate::core::Share;

/// How much of a pool the daemon holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Amount {
    /// Nothing: leases are counted, and the kernel enforces none of it.
    Nothing,
    /// Everything that is there.
    #[default]
    All,
    /// At most that: whole pages, at least one.
    AtMost(ByteLen),
}

/// What a hold begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// How much the daemon takes for itself.
    pub amount: Amount,
    /// How much it leaves in the pool for others, such as the device's own driver. Nothing distinguishes them: whoever has a
    /// descriptor of the allocator can map this much without a lease.
    pub leave: ByteLen,
}

impl Plan {
    /// How much to hold of a pool that has `available` bytes: whole pages.
    pub fn share_of(self, available: ByteLen) -> ByteLen {
        let most = match self.amount {
            Amount::Nothing => ByteLen::ZERO,
            Amount::All => available,
            Amount::AtMost(bytes) => bytes,
        };
        whole_pages(available.saturating_sub(self.leave).min(most))
    }

    /// The terms of the region that is held by it.
    pub(super) fn share(self) -> Share {
        match self.amount {
            // Nothing is held, so that nothing is left to anybody.
            Amount::Nothing => Share::default(),
            Amount::All => Share { most: None, leave: self.leave },
            Amount::AtMost(bytes) => Share { most: Some(bytes), leave: self.leave },
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    /// `all`, `none` or a size.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::Nothing),
            size => match size.parse::<ByteLen>() {
                Ok(size) if !size.is_zero() && size.is_aligned(page()) => Ok(Self::AtMost(size)),
                Ok(size) => Err(format!(
                    "can't hold {size}: expected \"all\", \"none\", or a multiple of {}, at least one",
                    page()
                )),
                Err(error) => Err(format!("{error}; or \"all\", or \"none\"")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_is_wanted_and_there_and_not_left_to_others() {
        let share = |amount, leave, available| {
            let plan = Plan { amount, leave: ByteLen::new(leave) };
            plan.share_of(ByteLen::new(available)).get()
        };
        assert_eq!(share(Amount::All, 0, 5 * 4096), 5 * 4096);
        assert_eq!(share(Amount::All, 4096, 5 * 4096), 4 * 4096);
        assert_eq!(share(Amount::All, 6 * 4096, 5 * 4096), 0);
        assert_eq!(share(Amount::All, 1, 5 * 4096), 4 * 4096);
        assert_eq!(share(Amount::AtMost(ByteLen::new(4096)), 4096, 5 * 4096), 4096);
        assert_eq!(share(Amount::AtMost(ByteLen::new(1 << 30)), 0, 5 * 4096), 5 * 4096);
        assert_eq!(share(Amount::Nothing, 0, 5 * 4096), 0);
    }

    #[test]
    fn amounts_are_words_or_sizes() {
        assert_eq!("all".parse(), Ok(Amount::All));
        assert_eq!("none".parse(), Ok(Amount::Nothing));
        assert_eq!("48MiB".parse(), Ok(Amount::AtMost(ByteLen::new(48 << 20))));
        for wrong in ["0", "5000", "48MB", "half", ""] {
            let message = wrong.parse::<Amount>().unwrap_err();
            assert!(message.contains("\"all\"") && message.contains("\"none\""), "{message}");
        }
    }
}
