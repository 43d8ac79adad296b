//! Device memory in the daemon's own address space, for clearing it and for showing it to another device's IOMMU.

use std::{
    io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
};

use peermem_proto::{ByteLen, ByteRange};
use rustix::mm::{MapFlags, ProtFlags};
use thiserror::Error;

/// A shared, writable mapping of device memory, such as a BAR or a device DAX.
///
/// Raw words only, never a slice: the device writes to it while we look. Touching it while its function doesn't decode
/// memory raises `SIGBUS`, so whoever maps a BAR must keep others from switching it off.
#[derive(Debug)]
pub struct DeviceMemory {
    start: NonNull<u8>,
    length: ByteLen,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for DeviceMemory {}
// SAFETY: through `&self` the memory is only written with volatile words, and nobody relies on what it holds.
unsafe impl Sync for DeviceMemory {}

/// The range leaves the memory, or isn't made of whole words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{range} isn't a range of whole 8-byte words inside the memory's {length}")]
pub struct NotInside {
    range: ByteRange,
    length: ByteLen,
}

impl DeviceMemory {
    /// Maps `length` bytes of `fd`, from `offset` on; both must be multiples of the page size.
    ///
    /// # Errors
    /// What `mmap(2)` says: `EINVAL` for a BAR that can't be mapped, `ENODEV` for a device that is gone.
    pub fn map(fd: BorrowedFd<'_>, offset: u64, length: ByteLen) -> io::Result<Self> {
        let bytes = length.to_usize().ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a free address, so that no memory in use is replaced.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd, offset) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, length })
    }

    /// All of it.
    pub const fn length(&self) -> ByteLen {
        self.length
    }

    /// Writes zeroes, and returns when the device has them.
    ///
    /// # Errors
    /// [`NotInside`].
    pub fn zero(&self, range: ByteRange) -> Result<(), NotInside> {
        let (start, bytes) = self.part(range)?;
        let words = start.as_ptr().cast::<u64>();
        let count = bytes / size_of::<u64>();
        for index in 0..count {
            // SAFETY:
            // * `part` has checked that `range` lies inside the mapping, which lives as long as `self`;
            // * the mapping starts at a page and the range at a multiple of 8, so the word is aligned.
            unsafe { words.wrapping_add(index).write_volatile(0) };
        }
        if let Some(last) = count.checked_sub(1) {
            // Writes to a PCI device are posted; a read from it comes back only after them.
            // SAFETY: as above.
            unsafe { words.wrapping_add(last).read_volatile() };
        }
        Ok(())
    }

    /// Where a range of it is in this process, for system calls.
    ///
    /// # Errors
    /// [`NotInside`].
    pub(super) fn address(&self, range: ByteRange) -> Result<u64, NotInside> {
        self.part(range).map(|(start, _)| start.as_ptr() as u64)
    }

    fn part(&self, range: ByteRange) -> Result<(NonNull<u8>, usize), NotInside> {
        const WORD: ByteLen = ByteLen::from_usize(size_of::<u64>());
        let words = range.offset().is_aligned(WORD) && range.length().is_aligned(WORD);
        let inside = words && range.end() <= self.length;
        let (Some(offset), Some(bytes), true) =
            (range.offset().to_usize(), range.length().to_usize(), inside)
        else {
            return Err(NotInside { range, length: self.length });
        };
        // SAFETY: `offset` is at most the mapping's length, which `map` has found to fit into a `usize`.
        Ok((unsafe { self.start.add(offset) }, bytes))
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // A length that didn't fit was never mapped.
        let Some(bytes) = self.length.to_usize() else { return };
        // SAFETY: the mapping was made by this value, which has handed out no pointer into it that outlives it.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), bytes) } {
            tracing::warn!(%error, "device memory stays mapped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::fs::FileExt as _};

    use super::*;

    const PAGE: usize = 4096;
    const ONE: ByteLen = ByteLen::from_usize(PAGE);

    fn range(offset: usize, length: usize) -> ByteRange {
        ByteRange::new(ByteLen::from_usize(offset), ByteLen::from_usize(length)).unwrap()
    }

    #[test]
    fn exactly_the_range_is_zeroed() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[0xff; 3 * PAGE], 0).unwrap();
        let memory = DeviceMemory::map(file.as_fd(), ONE.get(), ByteLen::from_usize(2 * PAGE)).unwrap();
        memory.zero(range(8, 16)).unwrap();
        memory.zero(range(PAGE, PAGE)).unwrap();
        memory.zero(range(2 * PAGE, 0)).unwrap();
        let mut bytes = [0; 3 * PAGE];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let zeroes: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at] == 0).collect();
        let expected: Vec<_> = (PAGE + 8..PAGE + 24).chain(2 * PAGE..3 * PAGE).collect();
        assert_eq!(zeroes, expected);
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(ONE.get()).unwrap();
        let memory = DeviceMemory::map(file.as_fd(), 0, ONE).unwrap();
        for outside in [range(0, PAGE + 8), range(PAGE, 8), range(usize::MAX, 0), range(4, 8), range(0, 4)] {
            assert!(memory.zero(outside).is_err(), "{outside}");
        }
        assert!(DeviceMemory::map(file.as_fd(), 0, ByteLen::new(u64::MAX)).is_err());
        assert!(DeviceMemory::map(file.as_fd(), 0, ByteLen::ZERO).is_err());
    }
}
