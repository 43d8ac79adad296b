//! Why memory can't be registered, in words and with the way out.

use peermem_proto::{ByteLen, Method};
use thiserror::Error;

use crate::{advice, errno::Errno};

/// Why memory can't become a memory region.
#[derive(Debug, Clone, Error)]
pub enum RegisterError {
    /// This rdma-core has no `ibv_reg_dmabuf_mr`.
    #[error("this rdma-core can't register dma-bufs; it needs version 34 or newer")]
    DmabufTooNew,
    /// Driver or kernel lacks the method.
    #[error("{device} or its kernel driver doesn't support {method} registration, which takes {}", advice::needs(*method))]
    Unsupported {
        /// The device.
        device: String,
        /// The method it lacks.
        method: Method,
        /// What the driver said.
        source: Errno,
    },
    /// The pages exist only as device memory.
    #[error(
        "these pages can't be pinned: memory of a p2pmem pool (NVMe CMB) needs on-demand registration, \
         a BAR's mmap has no pages at all and needs a dma-buf"
    )]
    NotPinnable(#[source] Errno),
    /// The range isn't mapped the way the access flags need it.
    #[error("the range isn't mapped, or is mapped read-only although the region is to be written")]
    NotMapped(#[source] Errno),
    /// More locked memory than this process may have.
    #[error(
        "{len} can't be pinned: RLIMIT_MEMLOCK is {}",
        limit.map_or_else(
            || "unlimited, so memory itself ran out".to_owned(),
            |limit| format!("{limit}; {}", advice::RAISE_MEMLOCK)
        )
    )]
    LockedMemory {
        /// How much was to be pinned.
        len: ByteLen,
        /// The process's limit, `None` for unlimited.
        limit: Option<ByteLen>,
        /// What the kernel said.
        source: Errno,
    },
    /// Pages of the dma-buf and of the region would not line up.
    #[error("offset {offset} and iova {iova:#x} differ in their low 12 bits")]
    Misaligned {
        /// Offset into the dma-buf.
        offset: ByteLen,
        /// Address in the region.
        iova: u64,
    },
    /// The fd isn't a dma-buf.
    #[error("the file descriptor isn't a dma-buf, or the range is outside it")]
    NotADmabuf(#[source] Errno),
    /// Anything else.
    #[error("{method} registration of {len} on {device} failed")]
    Failed {
        /// The device.
        device: String,
        /// The method.
        method: Method,
        /// The region's length.
        len: ByteLen,
        /// What the kernel said.
        source: Errno,
    },
}

impl RegisterError {
    /// Says what an error number means for this method.
    pub(super) fn explain(device: &str, method: Method, len: ByteLen, source: Errno) -> Self {
        let device = device.to_owned();
        match (source.name(), method) {
            (Some("EOPNOTSUPP" | "ENOTSUPP" | "ENOSYS" | "EPROTONOSUPPORT"), _) => {
                Self::Unsupported { device, method, source }
            }
            // EREMOTEIO is what mm/gup.c says of P2PDMA pages once they are mapped.
            (Some("EFAULT" | "EREMOTEIO"), Method::Pinned) => Self::NotPinnable(source),
            (Some("EFAULT"), Method::OnDemand) => Self::NotMapped(source),
            (Some("ENOMEM"), Method::Pinned) => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
                Self::LockedMemory { len, limit: limit.map(ByteLen::new), source }
            }
            (Some("EBADF" | "EINVAL"), Method::Dmabuf) => Self::NotADmabuf(source),
            _ => Self::Failed { device, method, len, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn explain(method: Method, errno: i32) -> RegisterError {
        RegisterError::explain("rxe0", method, ByteLen::new(1 << 20), Errno::new(errno))
    }

    #[test]
    fn a_pinned_cmb_points_at_on_demand_registration() {
        let error = explain(Method::Pinned, 14);
        assert!(error.to_string().contains("on-demand"), "{error}");
        assert!(error.source().unwrap().to_string().starts_with("EFAULT"));
    }

    #[test]
    fn enotsupp_is_a_missing_feature() {
        for errno in [95, 524] {
            let error = explain(Method::Dmabuf, errno);
            assert!(matches!(error, RegisterError::Unsupported { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_full_memlock_limit_is_named() {
        let text = explain(Method::Pinned, 12).to_string();
        assert!(text.contains("RLIMIT_MEMLOCK") && text.contains("1MiB"), "{text}");
        assert!(matches!(explain(Method::OnDemand, 12), RegisterError::Failed { .. }));
    }
}
