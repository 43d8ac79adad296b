//! What a dma-buf wants of the CPU: every access between a begin and an end
//! (`DMA_BUF_IOCTL_SYNC`, include/uapi/linux/dma-buf.h).
#![allow(unsafe_code, reason = "the ioctl")]

use std::os::fd::BorrowedFd;

use rustix::{
    io::Errno,
    ioctl::{Setter, ioctl, opcode},
};

use super::CopyError;

/// `DMA_BUF_SYNC_READ`.
pub(super) const READ: u64 = 1;
/// `DMA_BUF_SYNC_WRITE`.
pub(super) const WRITE: u64 = 2;
/// `DMA_BUF_SYNC_END`; a begin is its absence.
const END: u64 = 4;
/// An announced access, to memory that wants it announced.
#[must_use]
#[derive(Debug)]
pub(super) struct Access<'a> {
    dmabuf: Option<BorrowedFd<'a>>,
    what: u64,
}

impl<'a> Access<'a> {
    /// Announces an access to `dmabuf`; without one there is nothing to do.
    pub(super) fn begin(dmabuf: Option<BorrowedFd<'a>>, what: u64) -> Result<Self, CopyError> {
        let access = Self { dmabuf, what };
        access.sync(what)?;
        Ok(access)
    }

    /// Says that it is over.
    pub(super) fn end(self) -> Result<(), CopyError> {
        self.sync(self.what | END)
    }

    fn sync(&self, flags: u64) -> Result<(), CopyError> {
        let Some(dmabuf) = self.dmabuf else { return Ok(()) };
        loop {
            // SAFETY: DMA_BUF_IOCTL_SYNC is _IOW('b', 0, struct dma_buf_sync), whose one field is a u64; on a
            // descriptor that is no dma-buf the number is unknown or takes no pointer that could be written through.
            let sync = unsafe { Setter::<{ opcode::write::<u64>(b'b', 0) }, u64>::new(flags) };
            // SAFETY: the setter's operation and type belong together, as shown above.
            match unsafe { ioctl(dmabuf, sync) } {
                Err(Errno::INTR | Errno::AGAIN) => {}
                done => return done.map_err(|errno| CopyError::Sync(errno.into())),
            }
        }
    }
}
