//! Files straight into and out of device memory: `O_DIRECT`, without a page of host memory in between.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::fs::{OFlags, fcntl_getfl};
use thiserror::Error;

use super::Mapping;
use crate::verbs::{Memory, MemoryError};

/// Why a file's bytes weren't moved.
#[derive(Debug, Error)]
pub enum DirectIoError {
    /// The part of the mapping isn't there.
    #[error(transparent)]
    Range(#[from] MemoryError),
    /// Without `O_DIRECT` the bytes would bounce through the page cache, in silence.
    #[error("the file wasn't opened with O_DIRECT: its bytes would go through the page cache in host memory")]
    NotDirect,
    /// The file's offset exceeds what the kernel takes.
    #[error("file offset {0} exceeds 2^63 - 1")]
    Offset(u64),
    /// The file has less than that.
    #[error("the file ended {missing} bytes early")]
    Ended {
        /// How many bytes were still to come.
        missing: usize,
    },
    /// The block layer refuses the pair, or the alignment.
    #[error(
        "the kernel refused to move bytes between this file's drive and the mapped memory: the drive can't reach the \
         device that owns it (map it for the drive's PCI function too, and the daemon says why), or an offset or the length \
         isn't a multiple of the drive's block size"
    )]
    Refused(#[source] io::Error),
    /// It failed for another reason.
    #[error("direct I/O failed")]
    Io(#[source] io::Error),
}

impl Mapping {
    /// Reads `length` bytes of `file`, from `file_offset` on, into device memory at `offset`. The drive writes to the
    /// device by itself where the lease's route says so.
    ///
    /// Offsets and length must be multiples of the drive's logical block size.
    ///
    /// # Errors
    /// [`DirectIoError`]. Some of the bytes may have arrived.
    pub fn read_file(
        &self,
        offset: usize,
        length: usize,
        file: impl AsFd,
        file_offset: u64,
    ) -> Result<(), DirectIoError> {
        self.memory.read_file(offset, length, file, file_offset)
    }

    /// Writes `length` bytes of device memory, from `offset` on, to `file` at `file_offset`. The drive reads them from the
    /// device by itself where the lease's route says so.
    ///
    /// Offsets and length must be multiples of the drive's logical block size.
    ///
    /// # Errors
    /// [`DirectIoError`]. Some of the bytes may have been written.
    pub fn write_file(
        &self,
        offset: usize,
        length: usize,
        file: impl AsFd,
        file_offset: u64,
    ) -> Result<(), DirectIoError> {
        self.memory.write_file(offset, length, file, file_offset)
    }
}

impl Memory {
    /// As [`Mapping::read_file`]: into host memory, for bytes that bounce through it.
    ///
    /// # Errors
    /// [`DirectIoError`]. Some of the bytes may have arrived.
    pub fn read_file(
        &self,
        offset: usize,
        length: usize,
        file: impl AsFd,
        file_offset: u64,
    ) -> Result<(), DirectIoError> {
        self.move_file(offset, length, file.as_fd(), file_offset, |fd, at, length, from| {
            // SAFETY:
            // * `at` to `at + length` lies inside this mapping, which is alive and writable for as long as `self` is borrowed;
            // * the memory is never behind a reference, so nobody relies on its not changing.
            unsafe { libc::pread(fd.as_raw_fd(), at.cast(), length, from) }
        })
    }

    /// As [`Mapping::write_file`]: out of host memory.
    ///
    /// # Errors
    /// [`DirectIoError`]. Some of the bytes may have been written.
    pub fn write_file(
        &self,
        offset: usize,
        length: usize,
        file: impl AsFd,
        file_offset: u64,
    ) -> Result<(), DirectIoError> {
        self.move_file(offset, length, file.as_fd(), file_offset, |fd, at, length, to| {
            // SAFETY: as in `read_file`; the kernel only reads the memory.
            unsafe { libc::pwrite(fd.as_raw_fd(), at.cast(), length, to) }
        })
    }

    fn move_file(
        &self,
        offset: usize,
        length: usize,
        file: BorrowedFd<'_>,
        file_offset: u64,
        step: impl Fn(BorrowedFd<'_>, *mut u8, usize, libc::off_t) -> libc::ssize_t,
    ) -> Result<(), DirectIoError> {
        let start = self.at(offset, length)?.as_ptr();
        if !fcntl_getfl(file).map_err(|errno| DirectIoError::Io(errno.into()))?.contains(OFlags::DIRECT) {
            return Err(DirectIoError::NotDirect);
        }
        let mut done = 0;
        while done < length {
            let position = u64::try_from(done).ok().and_then(|done| file_offset.checked_add(done));
            let position = position.and_then(|position| libc::off_t::try_from(position).ok());
            let position = position.ok_or(DirectIoError::Offset(file_offset))?;
            let at = start.wrapping_add(done);
            match usize::try_from(step(file, at, length - done, position)) {
                Ok(0) => return Err(DirectIoError::Ended { missing: length - done }),
                Ok(moved) => done += moved,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error if refuses(&error) => return Err(DirectIoError::Refused(error)),
                    error => return Err(DirectIoError::Io(error)),
                },
            }
        }
        Ok(())
    }
}

/// `EINVAL` for a wrong alignment; that or `EREMOTEIO` for a pair of devices that `pci_p2pdma_map_type` turns down
/// (block/blk-map.c, drivers/nvme/host/pci.c).
fn refuses(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EREMOTEIO))
}
