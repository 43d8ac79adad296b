//! Global identifiers: how a port is addressed.

use std::{ffi::c_int, fmt, net::Ipv6Addr, str::FromStr};

use peermem_verbs_sys::{self as sys, inline};
use serde::{Deserialize, Serialize};

use super::{Context, handle::check};
use crate::errno::Errno;

/// A 128-bit global identifier, written as an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gid(Ipv6Addr);

impl Gid {
    /// From its bytes, in network order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ipv6Addr::from_octets(bytes))
    }

    /// Its bytes, in network order.
    pub const fn bytes(self) -> [u8; 16] {
        self.0.octets()
    }

    /// An IPv4 address in IPv6 form (`::ffff:10.0.2.15`), which is what RoCE v2 makes of an IPv4 interface.
    pub const fn is_ipv4_mapped(self) -> bool {
        self.0.to_ipv4_mapped().is_some()
    }

    /// An unused table entry.
    pub const fn is_zero(self) -> bool {
        self.0.is_unspecified()
    }
}

impl FromStr for Gid {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which packets a GID stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GidKind {
    /// InfiniBand.
    Ib,
    /// RoCE v1: Ethernet frames, not routed.
    RoceV1,
    /// RoCE v2: UDP.
    RoceV2,
    /// rdma-core is too old to tell, or newer than this list.
    Unknown,
}

/// A valid entry of a port's GID table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GidEntry {
    /// Where it stands in the table.
    pub index: u8,
    /// The GID.
    pub gid: Gid,
    /// Which packets it stands for.
    pub kind: GidKind,
}

impl GidEntry {
    /// The entry to address a port by: RoCE v2 over IPv4, else RoCE v2, else the first.
    ///
    /// IPv4 first, because a link-local IPv6 GID reaches no further than its own segment.
    pub fn preferred(entries: &[Self]) -> Option<&Self> {
        let roce_v2 = |entry: &&Self| entry.kind == GidKind::RoceV2;
        entries
            .iter()
            .find(|entry| roce_v2(entry) && entry.gid.is_ipv4_mapped())
            .or_else(|| entries.iter().find(roce_v2))
            .or_else(|| entries.first())
    }
}

/// All valid entries of `port`. Entries above index 255 can't be used by `ibv_ah_attr`, and are left out.
pub(super) fn query(context: &Context, port: u8) -> Result<Vec<GidEntry>, Errno> {
    let mut attributes = sys::ibv_port_attr::zeroed();
    // SAFETY: the context is open.
    check(unsafe { inline::ibv_query_port(context.verbs, context.handle.as_ptr(), port, &mut attributes) })?;
    let table_len = usize::try_from(attributes.gid_tbl_len).unwrap_or_default();
    // The table call answers for all ports of the device, of which none has more than two; and it fails when the entries
    // take more bytes than the 16-bit length of a uverbs attribute can say.
    const MOST: usize = u16::MAX as usize / size_of::<sys::ibv_gid_entry>();
    let mut raw = vec![sys::ibv_gid_entry::zeroed(); (2 * table_len).clamp(1, MOST)];
    // SAFETY: the context is open.
    match unsafe { inline::ibv_query_gid_table(context.verbs, context.handle.as_ptr(), &mut raw) } {
        Some(count) => {
            let count = usize::try_from(count).map_err(|_| Errno::new(i32::try_from(count).unwrap_or(5)))?;
            raw.truncate(count);
            raw.retain(|entry| entry.port_num == u32::from(port));
            Ok(raw.iter().filter_map(from_abi).collect())
        }
        None => query_each(context, port, attributes.gid_tbl_len),
    }
}

/// One by one and without their kind, for rdma-core older than the table call (version 30).
fn query_each(context: &Context, port: u8, table_len: c_int) -> Result<Vec<GidEntry>, Errno> {
    let mut entries = Vec::new();
    for index in 0..u8::try_from(table_len).unwrap_or(u8::MAX) {
        let mut raw = sys::ibv_gid { raw: [0; 16] };
        // SAFETY: the context is open and `raw` may be written.
        check(unsafe {
            (context.verbs.ibv_query_gid)(context.handle.as_ptr(), port, c_int::from(index), &raw mut raw)
        })?;
        // SAFETY: every GID is 16 bytes.
        let gid = Gid::from_bytes(unsafe { raw.raw });
        if !gid.is_zero() {
            entries.push(GidEntry { index, gid, kind: GidKind::Unknown });
        }
    }
    Ok(entries)
}

fn from_abi(raw: &sys::ibv_gid_entry) -> Option<GidEntry> {
    Some(GidEntry {
        index: u8::try_from(raw.gid_index).ok()?,
        // SAFETY: every GID is 16 bytes.
        gid: Gid::from_bytes(unsafe { raw.gid.raw }),
        kind: match raw.gid_type {
            sys::IBV_GID_TYPE_IB => GidKind::Ib,
            sys::IBV_GID_TYPE_ROCE_V1 => GidKind::RoceV1,
            sys::IBV_GID_TYPE_ROCE_V2 => GidKind::RoceV2,
            _ => GidKind::Unknown,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u8, gid: &str, kind: GidKind) -> GidEntry {
        GidEntry { index, gid: gid.parse().unwrap(), kind }
    }

    #[test]
    fn roce_v2_over_ipv4_is_preferred() {
        let link_local = entry(0, "fe80::5054:ff:fe12:3456", GidKind::RoceV2);
        let v1 = entry(1, "::ffff:10.0.2.15", GidKind::RoceV1);
        let v2 = entry(2, "::ffff:10.0.2.15", GidKind::RoceV2);
        assert_eq!(GidEntry::preferred(&[link_local, v1, v2]), Some(&v2));
        assert_eq!(GidEntry::preferred(&[v1, link_local]), Some(&link_local));
        assert_eq!(GidEntry::preferred(&[v1]), Some(&v1));
        assert_eq!(GidEntry::preferred(&[]), None);
    }
}
