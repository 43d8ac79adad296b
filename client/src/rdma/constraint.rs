//! What a device demands of transfers that touch a region, so that the right bytes move.

use peermem_proto::ByteLen;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{advice, verbs::Mtu};

/// Transfers start at page boundaries, and a packet carries a whole page.
///
/// `rdma_rxe` needs this for on-demand regions: it copies each packet to or from the start of the page, whatever the
/// packet's offset inside it (`__rxe_odp_mr_copy` in `drivers/infiniband/sw/rxe/rxe_odp.c`). When a transfer starts at
/// a page boundary and every packet but the last fills a page, all offsets are zero; the length is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageAligned {
    /// Bytes of a page of the machine that has the region.
    pub page_size: u32,
    /// The smallest path MTU whose packets fill a page.
    pub min_path_mtu: Mtu,
}

/// A transfer that would move wrong bytes, and was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unaligned {
    /// It doesn't start at a page boundary.
    #[error(
        "{whose} address {address:#x} isn't a multiple of {page}, and {whose} device ignores the offset inside a page \
         with on-demand paging (as rdma_rxe does): it would move the wrong bytes and report success; use page-aligned \
         addresses on both sides, the length is free",
        page = ByteLen::new(u64::from(*page_size))
    )]
    Address {
        /// `the local` or `the peer's`.
        whose: &'static str,
        /// Where it starts.
        address: u64,
        /// The page's size.
        page_size: u32,
    },
    /// Packets are smaller than pages.
    #[error(
        "the path MTU is {mtu}, and {whose} device needs {needed} with on-demand paging (rdma_rxe ignores the offset \
         inside a page): it would move the wrong bytes and report success; raise the Ethernet interfaces of both \
         sides to MTU 9000 (`{}`) and connect again",
        advice::raise_mtu("DEV")
    )]
    PathMtu {
        /// `the local` or `the peer's`.
        whose: &'static str,
        /// The connection's path MTU.
        mtu: Mtu,
        /// What it would have to be.
        needed: Mtu,
    },
}

impl PageAligned {
    /// Refuses a transfer that touches `address` over a path of `mtu`. `whose` goes into the message.
    ///
    /// # Errors
    ///
    /// [`Unaligned`].
    pub(super) fn check(&self, whose: &'static str, address: u64, mtu: Mtu) -> Result<(), Unaligned> {
        let page_size = self.page_size;
        if mtu < self.min_path_mtu {
            return Err(Unaligned::PathMtu { whose, mtu, needed: self.min_path_mtu });
        }
        if !address.is_multiple_of(u64::from(page_size)) {
            return Err(Unaligned::Address { whose, address, page_size });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RXE: PageAligned = PageAligned { page_size: 4096, min_path_mtu: Mtu::Bytes4096 };

    #[test]
    fn whole_pages_over_a_large_mtu_pass() {
        assert_eq!(RXE.check("the local", 0x7f00_0000_1000, Mtu::Bytes4096), Ok(()));
    }

    #[test]
    fn the_refusal_says_what_to_do() {
        let text = RXE.check("the peer's", 0x1010, Mtu::Bytes4096).unwrap_err().to_string();
        assert!(text.contains("0x1010") && text.contains("page-aligned"), "{text}");
        let text = RXE.check("the local", 0x1000, Mtu::Bytes1024).unwrap_err().to_string();
        assert!(text.contains("MTU 9000") && text.contains("1024"), "{text}");
    }

    #[test]
    fn its_form_on_the_wire() {
        let json = r#"{"page_size":4096,"min_path_mtu":4096}"#;
        assert_eq!(serde_json::to_string(&RXE).unwrap(), json);
        assert_eq!(serde_json::from_str::<PageAligned>(json).unwrap(), RXE);
        assert!(serde_json::from_str::<PageAligned>(r#"{"page_size":4096,"min_path_mtu":1500}"#).is_err());
    }
}
