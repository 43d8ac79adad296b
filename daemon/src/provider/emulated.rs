//! Host memory that plays device memory, for development: a sealed memfd for each lease.

use peermem_proto::{ByteLen, Fault, Method, ProviderKind, RegionName, Revocation, Shape, Sharing};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::{Carved, fault};
use crate::core::{RegionSpec, Returns};

/// An emulated region of `size` bytes.
pub fn spec(name: RegionName, size: ByteLen) -> RegionSpec {
    RegionSpec {
        name,
        provider: ProviderKind::Emulated,
        device: None,
        incarnation: 0,
        shape: Shape::Pool,
        size,
        share: None,
        alignment: ByteLen::from_usize(rustix::param::page_size()),
        method: Method::Pinned,
        revocation: Revocation::Advisory,
        sharing: Sharing::Everyone,
        returns: Returns::AtOnce,
    }
}

/// Fresh, zeroed memory. Its size is sealed, so that no client can shrink it under another's feet (SIGBUS).
pub(super) fn carve(region: &RegionName, length: ByteLen) -> Result<Carved, Fault> {
    let make = || {
        let fd = memfd_create(
            format!("peermem-emulated:{region}"),
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL,
        )?;
        ftruncate(&fd, length.get())?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(fd)
    };
    make()
        .map(|fd| Carved::new(fd, ByteLen::ZERO))
        .map_err(|errno: rustix::io::Errno| fault(region, "memfd_create", errno))
}
