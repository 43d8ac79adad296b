//! Memory regions: memory that a device may reach.

use std::{
    ffi::c_uint,
    fmt,
    ops::BitOr,
    os::fd::{AsRawFd, BorrowedFd},
    sync::Arc,
};

use peermem_proto::{ByteLen, ByteRange, Method};
use peermem_verbs_sys::{self as sys, inline};
use thiserror::Error;

use super::{
    Backing, ProtectionDomain, RegisterError,
    handle::{CloseError, Handle},
    number::{Lkey, Rkey},
};
use crate::errno::Errno;

/// Who may do what with a region. Combine with `|`. Local work requests may always read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access(c_uint);

impl Access {
    /// Only local reads.
    pub const LOCAL_READ: Self = Self(0);
    /// Local work requests (receives, RDMA reads) write to it.
    pub const LOCAL_WRITE: Self = Self(sys::IBV_ACCESS_LOCAL_WRITE);
    /// Peers read it.
    pub const REMOTE_READ: Self = Self(sys::IBV_ACCESS_REMOTE_READ);
    /// Peers write to it. Local write access comes with it, as the InfiniBand architecture demands.
    pub const REMOTE_WRITE: Self = Self(sys::IBV_ACCESS_REMOTE_WRITE | sys::IBV_ACCESS_LOCAL_WRITE);
    /// The device may reorder its PCI writes. Dropped where kernel or rdma-core don't know it.
    pub const RELAXED_ORDERING: Self = Self(sys::IBV_ACCESS_RELAXED_ORDERING);

    /// Whether all of `other` is granted.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Access {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A part of a dma-buf, and the address it gets in the region.
#[derive(Debug, Clone, Copy)]
pub struct DmabufRange {
    /// Which bytes of the dma-buf.
    pub range: ByteRange,
    /// The address of its first byte in work requests. Its low 12 bits equal the offset's.
    pub iova: u64,
}

/// A range outside its region.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{range} lies outside the memory region of {len}")]
pub struct OutOfBounds {
    /// What was asked for.
    pub range: ByteRange,
    /// What there is.
    pub len: ByteLen,
}

/// Registered memory.
pub struct MemoryRegion {
    // Declared, and so dropped, in this order: deregistered before the mapping goes.
    handle: Handle<sys::ibv_mr>,
    _backing: Box<dyn Send + Sync>,
    pd: Arc<ProtectionDomain>,
    iova: u64,
    len: ByteLen,
    access: Access,
    method: Method,
}

impl MemoryRegion {
    /// Pins the pages for as long as the region lives. For host memory, device DAX and dma-buf-less memory with pages.
    ///
    /// # Errors
    ///
    /// [`RegisterError`].
    pub fn pinned(
        pd: &Arc<ProtectionDomain>,
        backing: impl Backing + 'static,
        access: Access,
    ) -> Result<Arc<Self>, RegisterError> {
        Self::mapped(pd, backing, access, Method::Pinned)
    }

    /// Lets the device fault pages in as it needs them. The way for `p2pmem` mappings, whose pages can't be pinned.
    ///
    /// That it succeeds proves little: a mapping without pages fails at the first access. Some devices also move bytes
    /// wrongly here; see [`rdma::probe`](crate::rdma::probe).
    ///
    /// # Errors
    ///
    /// [`RegisterError`].
    pub fn on_demand(
        pd: &Arc<ProtectionDomain>,
        backing: impl Backing + 'static,
        access: Access,
    ) -> Result<Arc<Self>, RegisterError> {
        Self::mapped(pd, backing, access, Method::OnDemand)
    }

    /// Registers a part of a dma-buf. The region holds its own reference to the buffer; `keep` is dropped after
    /// deregistration, for a lease that has to last as long.
    ///
    /// # Errors
    ///
    /// [`RegisterError`].
    pub fn dmabuf(
        pd: &Arc<ProtectionDomain>,
        fd: BorrowedFd<'_>,
        part: DmabufRange,
        access: Access,
        keep: impl Send + Sync + 'static,
    ) -> Result<Arc<Self>, RegisterError> {
        let register = pd.context.verbs.ibv_reg_dmabuf_mr.ok_or(RegisterError::DmabufTooNew)?;
        let (offset, len) = (part.range.offset(), part.range.length());
        if (offset.get() ^ part.iova) & 0xfff != 0 {
            return Err(RegisterError::Misaligned { offset, iova: part.iova });
        }
        let failed = |errno| RegisterError::explain(pd.context.name(), Method::Dmabuf, len, errno);
        let bytes = len.to_usize().ok_or(failed(Errno::new(75)))?;
        let flags = access.0.cast_signed();
        // SAFETY: the domain is live; the kernel checks fd and range.
        let raw =
            unsafe { register(pd.handle.as_ptr(), offset.get(), bytes, part.iova, fd.as_raw_fd(), flags) };
        // SAFETY: the region was just made and nobody else has it.
        let handle =
            unsafe { Handle::new("memory region", raw, pd.context.verbs.ibv_dereg_mr) }.map_err(failed)?;
        let (pd, backing) = (pd.clone(), Box::new(keep));
        Ok(Arc::new(Self {
            handle,
            _backing: backing,
            pd,
            iova: part.iova,
            len,
            access,
            method: Method::Dmabuf,
        }))
    }

    fn mapped(
        pd: &Arc<ProtectionDomain>,
        backing: impl Backing + 'static,
        access: Access,
        method: Method,
    ) -> Result<Arc<Self>, RegisterError> {
        let flags = access.0 | if method == Method::OnDemand { sys::IBV_ACCESS_ON_DEMAND } else { 0 };
        let (start, bytes) = (backing.start(), backing.size());
        let len = ByteLen::from_usize(bytes);
        let verbs = pd.context.verbs;
        // SAFETY: the domain is live, and the backing keeps the range mapped until after deregistration.
        let raw = unsafe { inline::ibv_reg_mr(verbs, pd.handle.as_ptr(), start.cast(), bytes, flags) };
        // SAFETY: the region was just made and nobody else has it.
        let handle = unsafe { Handle::new("memory region", raw, verbs.ibv_dereg_mr) }
            .map_err(|errno| RegisterError::explain(pd.context.name(), method, len, errno))?;
        let (iova, pd) = (start as u64, pd.clone());
        Ok(Arc::new(Self { handle, _backing: Box::new(backing), pd, iova, len, access, method }))
    }

    /// The address of its first byte in work requests, local and remote.
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// How long it is.
    pub fn len(&self) -> ByteLen {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len.is_zero()
    }

    /// How it was registered.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What it was registered for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Its protection domain.
    pub fn protection_domain(&self) -> &Arc<ProtectionDomain> {
        &self.pd
    }

    /// The key for this process's work requests.
    pub fn lkey(&self) -> Lkey {
        // SAFETY: the region is live.
        Lkey::new(unsafe { (*self.handle.as_ptr()).lkey })
    }

    /// The key for peers.
    pub fn rkey(&self) -> Rkey {
        // SAFETY: the region is live.
        Rkey::new(unsafe { (*self.handle.as_ptr()).rkey })
    }

    /// A part of it, for a work request.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`].
    pub fn slice(self: &Arc<Self>, range: ByteRange) -> Result<MrSlice, OutOfBounds> {
        if range.end() > self.len {
            return Err(OutOfBounds { range, len: self.len });
        }
        Ok(MrSlice { region: self.clone(), range })
    }

    /// Deregisters it, and then drops what it was made of.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when the kernel refuses.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.handle.close()
    }
}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegion")
            .field("method", &self.method)
            .field("iova", &format_args!("{:#x}", self.iova))
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A range of a memory region, always inside it. Keeps the region alive.
#[derive(Debug, Clone)]
pub struct MrSlice {
    region: Arc<MemoryRegion>,
    range: ByteRange,
}

impl MrSlice {
    /// The region.
    pub fn region(&self) -> &Arc<MemoryRegion> {
        &self.region
    }

    /// The address of its first byte in work requests.
    pub fn iova(&self) -> u64 {
        // A region that wrapped around the address space could not have been registered.
        self.region.iova.wrapping_add(self.range.offset().get())
    }

    /// How long it is.
    pub fn len(&self) -> ByteLen {
        self.range.length()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// Takes the first `length` bytes, or all where it has fewer, off this slice.
    pub fn take_front(&mut self, length: ByteLen) -> Self {
        let (front, rest) = self.range.split_at(length);
        self.range = rest;
        Self { region: self.region.clone(), range: front }
    }

    /// A part of this part.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`].
    pub fn slice(&self, part: ByteRange) -> Result<Self, OutOfBounds> {
        let outside = OutOfBounds { range: part, len: self.len() };
        if part.end() > self.len() {
            return Err(outside);
        }
        let offset = self.range.offset().checked_add(part.offset());
        let range = offset.and_then(|offset| ByteRange::new(offset, part.length())).ok_or(outside)?;
        Ok(Self { region: self.region.clone(), range })
    }
}
