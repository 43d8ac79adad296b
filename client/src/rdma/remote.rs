//! A region of the peer, as it travels to those who may reach it.

use std::{fmt, str::FromStr};

use peermem_proto::{ByteLen, Method};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::{constraint::PageAligned, quirks::Quirks, quirks::Unusable};
use crate::verbs::{Access, MrSlice, Rkey};

/// The form that this release writes and reads.
const VERSION: u32 = 1;

/// An address inside a memory region of another process: its registered iova. On the wire a hexadecimal string, since
/// JSON numbers lose meaning above 2^53 in some programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteAddress(u64);

impl RemoteAddress {
    /// The number, for a work request.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for RemoteAddress {
    type Err = RemoteRegionError;
    fn from_str(text: &str) -> Result<Self, RemoteRegionError> {
        text.strip_prefix("0x")
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| RemoteRegionError::Address(text.chars().take(40).collect()))
    }
}

impl Serialize for RemoteAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RemoteAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Memory of a peer: where, how much, under which key, and how it has to be treated.
///
/// Whoever holds this can read and write the memory as long as it is registered, as far as its queue pair belongs to
/// the same protection domain. It is as confidential as the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct RemoteRegion {
    address: RemoteAddress,
    rkey: Rkey,
    length: ByteLen,
    method: Method,
    page_aligned: Option<PageAligned>,
}

/// The form on the wire, not yet checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    address: RemoteAddress,
    rkey: Rkey,
    length: ByteLen,
    method: Method,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page_aligned: Option<PageAligned>,
}

/// Why something isn't a region that a peer can reach.
#[derive(Debug, Clone, Error)]
pub enum RemoteRegionError {
    /// Another release wrote it.
    #[error("version {0} of a region's description isn't known here, only {VERSION}")]
    Version(u32),
    /// Not an address.
    #[error("{0:?} isn't an address: expected 0x and 1 to 16 hexadecimal digits")]
    Address(String),
    /// The end lies beyond the address space.
    #[error("{length} from {address} on reach beyond the address space")]
    TooLong {
        /// Where it starts.
        address: RemoteAddress,
        /// How long it claims to be.
        length: ByteLen,
    },
    /// A page size that no machine has.
    #[error("{0} isn't a page size")]
    PageSize(u32),
    /// Registered without any right for peers.
    #[error("the memory region was registered without remote read or write access")]
    NotRemote,
    /// The device can't be trusted with it.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl RemoteRegion {
    /// Describes local memory to a peer. `quirks` are those of the region's device.
    ///
    /// # Errors
    ///
    /// [`RemoteRegionError::NotRemote`], [`RemoteRegionError::Unusable`].
    pub fn describe(slice: &MrSlice, quirks: &Quirks) -> Result<Self, RemoteRegionError> {
        Self::new(slice, quirks.constraint(slice.region().method())?)
    }

    pub(super) fn new(slice: &MrSlice, page_aligned: Option<PageAligned>) -> Result<Self, RemoteRegionError> {
        let region = slice.region();
        let access = region.access();
        if !access.contains(Access::REMOTE_READ) && !access.contains(Access::REMOTE_WRITE) {
            return Err(RemoteRegionError::NotRemote);
        }
        Ok(Self {
            address: RemoteAddress(slice.iova()),
            rkey: region.rkey(),
            length: slice.len(),
            method: region.method(),
            page_aligned,
        })
    }

    /// The address of its first byte.
    pub fn address(&self) -> RemoteAddress {
        self.address
    }

    /// Its key.
    pub fn rkey(&self) -> Rkey {
        self.rkey
    }

    /// How long it is.
    pub fn length(&self) -> ByteLen {
        self.length
    }

    /// How the peer registered it.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What transfers have to keep to.
    pub fn page_aligned(&self) -> Option<PageAligned> {
        self.page_aligned
    }
}

impl From<RemoteRegion> for Wire {
    fn from(region: RemoteRegion) -> Self {
        let RemoteRegion { address, rkey, length, method, page_aligned } = region;
        Self { version: VERSION, address, rkey, length, method, page_aligned }
    }
}

impl TryFrom<Wire> for RemoteRegion {
    type Error = RemoteRegionError;
    fn try_from(wire: Wire) -> Result<Self, RemoteRegionError> {
        let Wire { version, address, rkey, length, method, page_aligned } = wire;
        if version != VERSION {
            return Err(RemoteRegionError::Version(version));
        }
        if address.0.checked_add(length.get()).is_none() {
            return Err(RemoteRegionError::TooLong { address, length });
        }
        if let Some(PageAligned { page_size, .. }) = page_aligned
            && (page_size < 4096 || !page_size.is_power_of_two())
        {
            return Err(RemoteRegionError::PageSize(page_size));
        }
        Ok(Self { address, rkey, length, method, page_aligned })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = r#"{"version":1,"address":"0xffff800000001000","rkey":4660,"length":8192,"method":"on_demand","page_aligned":{"page_size":4096,"min_path_mtu":4096}}"#;

    #[test]
    fn its_form_on_the_wire() {
        let region: RemoteRegion = serde_json::from_str(JSON).unwrap();
        assert_eq!(region.address().get(), 0xffff_8000_0000_1000);
        assert_eq!(serde_json::to_string(&region).unwrap(), JSON);
    }

    #[test]
    fn what_can_not_be_right_is_refused() {
        for (valid, wrong) in [
            ("\"version\":1", "\"version\":2"),
            ("\"length\":8192", "\"length\":140737488351233"),
            ("\"page_size\":4096", "\"page_size\":0"),
            ("\"page_size\":4096", "\"page_size\":5000"),
            ("\"0xffff800000001000\"", "\"4096\""),
            ("\"rkey\":4660", "\"rkey\":-1"),
            ("\"rkey\":4660", "\"rkey\":4660,\"more\":1"),
        ] {
            let json = JSON.replace(valid, wrong);
            let result = serde_json::from_str::<RemoteRegion>(&json);
            assert!(json != JSON && result.is_err(), "accepted {json}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = serde_json::from_slice::<RemoteRegion>(&bytes);
        }
    }
}
