//! Numbers of the InfiniBand architecture, kept apart by type.

use std::{fmt, hash::BuildHasher as _};

use peermem_verbs_sys as sys;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The key under which a peer may reach a memory region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rkey(u32);

impl Rkey {
    /// Wraps a key as a peer sent it. The responder's device checks it.
    pub const fn new(key: u32) -> Self {
        Self(key)
    }

    /// The key.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The key under which this process's own work requests name a memory region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lkey(u32);

impl Lkey {
    pub(super) const fn new(key: u32) -> Self {
        Self(key)
    }

    /// The key.
    pub const fn get(self) -> u32 {
        self.0
    }
}

macro_rules! twenty_four_bits {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name(u32);

        impl $name {
            /// The number, or `None` above 24 bits.
            pub const fn new(number: u32) -> Option<Self> {
                if number >> 24 == 0 { Some(Self(number)) } else { None }
            }

            /// The number.
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = String;
            fn try_from(number: u32) -> Result<Self, String> {
                Self::new(number).ok_or_else(|| format!("{number} needs more than 24 bits"))
            }
        }

        impl From<$name> for u32 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

twenty_four_bits! {
    /// The number of a queue pair, unique on its device.
    Qpn
}
twenty_four_bits! {
    /// A packet sequence number: where a queue pair's counting starts.
    Psn
}

impl Qpn {
    /// A number that the library gave, of which only 24 bits go into packets.
    pub(super) const fn truncated(number: u32) -> Self {
        Self(number & 0xff_ffff)
    }
}

impl Psn {
    /// A start that late packets of an earlier connection are unlikely to match.
    pub fn random() -> Self {
        let seed = std::hash::RandomState::new().hash_one(0_u8);
        Self((seed & 0xff_ffff) as u32)
    }
}

/// The number that a work request carries and its completion repeats; the poster chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkId(pub u64);

/// A 64-bit globally unique identifier, shown as `ibv_devinfo` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(u64);

impl Guid {
    pub(super) const fn from_be(network_order: sys::__be64) -> Self {
        Self(u64::from_be(network_order))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (self.0 >> shift) & 0xffff);
        write!(f, "{a:04x}:{b:04x}:{c:04x}:{d:04x}")
    }
}

/// How many bytes of payload a packet carries at most. On the wire and in text it is that number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
#[allow(missing_docs, reason = "each name is its number of bytes")]
pub enum Mtu {
    Bytes256,
    Bytes512,
    Bytes1024,
    Bytes2048,
    Bytes4096,
}

/// A number that isn't a path MTU.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} isn't a path MTU: expected 256, 512, 1024, 2048 or 4096")]
pub struct MtuError(u32);

impl Mtu {
    const ALL: [(Self, u32, sys::ibv_mtu); 5] = [
        (Self::Bytes256, 256, sys::IBV_MTU_256),
        (Self::Bytes512, 512, sys::IBV_MTU_512),
        (Self::Bytes1024, 1024, sys::IBV_MTU_1024),
        (Self::Bytes2048, 2048, sys::IBV_MTU_2048),
        (Self::Bytes4096, 4096, sys::IBV_MTU_4096),
    ];

    /// Every path MTU that isn't larger than this, the smallest first.
    pub fn and_smaller(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().map(|(mtu, ..)| mtu).filter(move |mtu| *mtu <= self)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u32 {
        Self::ALL[self as usize].1
    }

    pub(super) const fn to_abi(self) -> sys::ibv_mtu {
        Self::ALL[self as usize].2
    }

    pub(super) fn from_abi(abi: sys::ibv_mtu) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(mtu, _, known)| (known == abi).then_some(mtu))
    }
}

impl TryFrom<u32> for Mtu {
    type Error = MtuError;
    fn try_from(bytes: u32) -> Result<Self, MtuError> {
        Self::ALL
            .into_iter()
            .find_map(|(mtu, known, _)| (known == bytes).then_some(mtu))
            .ok_or(MtuError(bytes))
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.bytes()
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mtu_is_its_number_of_bytes() {
        for (mtu, bytes, abi) in Mtu::ALL {
            assert_eq!(Mtu::try_from(bytes), Ok(mtu));
            assert_eq!(Mtu::from_abi(abi), Some(mtu));
            assert_eq!((mtu.bytes(), mtu.to_abi()), (bytes, abi));
        }
        assert_eq!(Mtu::try_from(1500), Err(MtuError(1500)));
        assert!(Mtu::Bytes1024 < Mtu::Bytes4096);
    }

    #[test]
    fn queue_pair_numbers_have_24_bits() {
        assert!(Qpn::new(0xff_ffff).is_some());
        assert!(serde_json::from_str::<Qpn>("16777216").is_err());
    }

    #[test]
    fn a_guid_reads_as_ibv_devinfo_prints_it() {
        assert_eq!(Guid::from_be(0x0123_4567_89ab_cdef_u64.to_be()).to_string(), "0123:4567:89ab:cdef");
    }
}
