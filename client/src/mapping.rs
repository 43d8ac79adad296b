//! Device memory in this process's address space.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use peermem_proto::{ByteLen, Method};
use thiserror::Error;

use self::dmabuf::Access;
use crate::{
    errno::Errno,
    verbs::{Backing, Memory, MemoryError},
};

mod direct;
mod dmabuf;
mod wipe;

pub use direct::DirectIoError;

/// Why leased memory can't be mapped here.
#[derive(Debug, Error)]
pub enum MappingError {
    /// The length exceeds this process's address space.
    #[error("{length} don't fit in this process's address space")]
    AddressSpace {
        /// The lease's length.
        length: ByteLen,
    },
    /// The pool has nothing left for the lease.
    #[error(
        "mapping {length} of the pool failed for want of memory, although the lease grants it. The daemon leaves exactly \
         that in the pool, once: either the lease is mapped already, perhaps by the process that delegated it, or a process \
         has mapped more than it leased (see `fuser -v /sys/bus/pci/devices/*/p2pmem/allocate`)"
    )]
    PoolUsedUp {
        /// The lease's length.
        length: ByteLen,
    },
    /// The exporter has no mmap, as vfio-pci and many GPU drivers have it.
    #[error(
        "this dma-buf can't be mapped by the CPU: register it for RDMA, or reach it through its owner's runtime"
    )]
    NoCpuAccess {
        /// What the kernel said.
        source: Errno,
    },
    /// This process has no free file descriptor for another copy of the dma-buf's.
    #[error("the dma-buf's descriptor can't be duplicated")]
    Descriptor(#[source] io::Error),
    /// The kernel said no for another reason.
    #[error("mapping {length} at offset {offset} of the lease's descriptor failed")]
    Kernel {
        /// The lease's length.
        length: ByteLen,
        /// Where the lease starts in the descriptor.
        offset: ByteLen,
        /// The reason.
        source: Errno,
    },
}

/// Why bytes weren't copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The range leaves the mapping.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The dma-buf's exporter refused the access, for instance because the memory has been revoked.
    #[error("the dma-buf's exporter didn't open it to the CPU")]
    Sync(#[source] io::Error),
}

/// Leased memory, mapped shared, readable and writable: the direction of a lease says what its *initiator* may do, and
/// what that device reads the CPU has to have written.
///
/// It holds no lease: when the lease's revocation is advisory, it keeps working after the lease's end until it is
/// dropped. When the device is unplugged the next access raises `SIGBUS`.
///
/// Memory of a pool that the kernel doesn't clear (an NVMe drive's CMB) is overwritten with zeroes when this is dropped.
#[derive(Debug)]
pub struct Mapping {
    memory: Memory,
    /// For the accesses that a dma-buf wants announced.
    dmabuf: Option<OwnedFd>,
    /// Whether the pages go back to a pool that doesn't clear them.
    is_of_pool: bool,
}

impl Mapping {
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        offset: ByteLen,
        length: ByteLen,
        method: Method,
    ) -> Result<Self, MappingError> {
        let dmabuf = match method {
            Method::Dmabuf => Some(fd.try_clone_to_owned().map_err(MappingError::Descriptor)?),
            Method::OnDemand | Method::Pinned => None,
        };
        let memory = map_in_time(fd, offset, length, method).map_err(|error| match error {
            MemoryError::Map { source, .. } => explain(source, offset, length, method),
            MemoryError::OutOfBounds { .. } => MappingError::AddressSpace { length },
        })?;
        Ok(Self { memory, dmabuf, is_of_pool: method == Method::OnDemand })
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.memory.size()
    }

    /// Never: the daemon grants no empty lease.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first byte, for system calls that take a buffer (`O_DIRECT` reads and writes). Valid for [`Mapping::len`]
    /// bytes as long as the mapping lives. Make no reference from it: devices write behind it.
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.start()
    }

    /// Copies `bytes` into device memory, from `offset` on.
    ///
    /// # Errors
    /// [`CopyError`]; nothing is copied outside the mapping.
    pub fn copy_from_slice(&self, offset: usize, bytes: &[u8]) -> Result<(), CopyError> {
        let access = Access::begin(self.dmabuf.as_ref().map(AsFd::as_fd), dmabuf::WRITE)?;
        let copied = self.memory.write(offset, bytes);
        access.end()?;
        Ok(copied?)
    }

    /// Copies device memory from `offset` on into `bytes`.
    ///
    /// # Errors
    /// [`CopyError`]. After [`CopyError::Sync`] `bytes` may hold anything.
    pub fn copy_to_slice(&self, offset: usize, bytes: &mut [u8]) -> Result<(), CopyError> {
        let access = Access::begin(self.dmabuf.as_ref().map(AsFd::as_fd), dmabuf::READ)?;
        let copied = self.memory.read(offset, bytes);
        access.end()?;
        Ok(copied?)
    }
}

impl Mapping {
    /// Copies `length` bytes of device memory, from `offset` on, to `at` in `target`: one half of a bounce through host
    /// memory.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn copy_to_memory(
        &self,
        offset: usize,
        target: &Memory,
        at: usize,
        length: usize,
    ) -> Result<(), CopyError> {
        let access = Access::begin(self.dmabuf.as_ref().map(AsFd::as_fd), dmabuf::READ)?;
        let copied = target.copy_from(at, &self.memory, offset, length);
        access.end()?;
        Ok(copied?)
    }

    /// Copies `length` bytes of `source`, from `from` on, to `offset` in device memory: the other half.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn copy_from_memory(
        &self,
        offset: usize,
        source: &Memory,
        from: usize,
        length: usize,
    ) -> Result<(), CopyError> {
        let access = Access::begin(self.dmabuf.as_ref().map(AsFd::as_fd), dmabuf::WRITE)?;
        let copied = self.memory.copy_from(offset, source, from, length);
        access.end()?;
        Ok(copied?)
    }
}

/// While the daemon takes back what other leases had, it may have the lease's own bytes for a moment.
const POOL_PAUSE: Duration = Duration::from_millis(10);
/// About 2 s. Counted, since a process that was kept from running has waited for nothing.
const POOL_TRIES: u32 = 200;

fn map_in_time(
    fd: BorrowedFd<'_>,
    offset: ByteLen,
    length: ByteLen,
    method: Method,
) -> Result<Memory, MemoryError> {
    let mut tries = 0;
    loop {
        match Memory::shared(fd, offset.get(), length) {
            Err(MemoryError::Map { source, .. }) if is_empty_pool(source, method) && tries < POOL_TRIES => {
                tries += 1;
                thread::sleep(POOL_PAUSE);
            }
            mapped => return mapped,
        }
    }
}

/// What `mmap` of `p2pmem/allocate` says when the pool hasn't that much left.
fn is_empty_pool(source: Errno, method: Method) -> bool {
    method == Method::OnDemand && source.name() == Some("ENOMEM")
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_of_pool {
            // It fails where the device is gone: then there is nothing to hide. The daemon zeroes before it lends again.
            let _ = self.wipe();
        }
    }
}

fn explain(source: Errno, offset: ByteLen, length: ByteLen, method: Method) -> MappingError {
    match (method, source.name()) {
        _ if is_empty_pool(source, method) => MappingError::PoolUsedUp { length },
        // dma_buf_mmap_internal in drivers/dma-buf/dma-buf.c says EINVAL without an mmap operation; exporters have
        // other words for it.
        (Method::Dmabuf, Some("EINVAL" | "ENODEV" | "ENOTSUPP" | "EOPNOTSUPP")) => {
            MappingError::NoCpuAccess { source }
        }
        _ => MappingError::Kernel { length, offset, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(method: Method, errno: i32) -> MappingError {
        explain(Errno::new(errno), ByteLen::ZERO, ByteLen::new(4096), method)
    }

    #[test]
    fn a_failed_mmap_is_told_by_what_was_mapped() {
        assert!(explained(Method::OnDemand, 12).to_string().contains("p2pmem/allocate"));
        for errno in [22, 19, 524, 95] {
            assert!(explained(Method::Dmabuf, errno).to_string().contains("CPU"), "{errno}");
        }
        assert!(matches!(explained(Method::Pinned, 12), MappingError::Kernel { .. }));
        assert!(matches!(explained(Method::Dmabuf, 12), MappingError::Kernel { .. }));
    }
}
