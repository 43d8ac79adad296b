//! Mapped memory that devices read and write at any time.

use std::{
    ffi::c_void,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    sync::{Arc, Mutex, PoisonError},
};

use peermem_proto::ByteLen;
use rustix::mm::{MapFlags, ProtFlags};
use thiserror::Error;

use crate::{Mapping, errno::Errno};

/// Memory that a [`MemoryRegion`](super::MemoryRegion) can be made of.
///
/// # Safety
///
/// For as long as the value lives, `start()` and `size()` always answer the same, the `size()` bytes from `start()` stay
/// mapped, and no Rust reference into them exists: devices and other processes write to them.
pub unsafe trait Backing: Send + Sync {
    /// Where it starts in this process.
    fn start(&self) -> *mut u8;
    /// Its length in bytes.
    fn size(&self) -> usize;
}

// SAFETY: the pointee keeps the promises as long as the Arc lives.
unsafe impl<B: Backing + ?Sized> Backing for Arc<B> {
    fn start(&self) -> *mut u8 {
        (**self).start()
    }

    fn size(&self) -> usize {
        (**self).size()
    }
}

// SAFETY: a mapping is made once, ends with the value, and hands out no reference into it.
unsafe impl Backing for Mapping {
    fn start(&self) -> *mut u8 {
        self.as_ptr()
    }

    fn size(&self) -> usize {
        self.len()
    }
}

/// Why memory can't be mapped or reached.
#[derive(Debug, Clone, Error)]
pub enum MemoryError {
    /// The kernel refused the mapping; for `p2pmem/allocate`, `ENOMEM` means that the pool is empty.
    #[error("{len} can't be mapped")]
    Map {
        /// How much was asked for.
        len: ByteLen,
        /// What `mmap` said.
        source: Errno,
    },
    /// Outside the mapping.
    #[error("{len} at {offset:#x} lie outside the mapping of {mapped}")]
    OutOfBounds {
        /// Where, in bytes from the start.
        offset: usize,
        /// How many bytes.
        len: ByteLen,
        /// How many there are.
        mapped: ByteLen,
    },
}

/// A shared mapping of this process. Bytes are copied in and out with volatile accesses of up to 8 bytes, aligned, since
/// the memory may be a device's.
///
/// When the device behind it is unplugged, the next access raises `SIGBUS`.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
    /// Copies take turns, so that only devices and other processes race with one.
    turn: Mutex<()>,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Memory {}
// SAFETY: through `&self` the memory is touched only by the copies below, which take turns.
unsafe impl Sync for Memory {}

// SAFETY: the mapping is made once, ends with the value, and no reference into it is ever made.
unsafe impl Backing for Memory {
    fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn size(&self) -> usize {
        self.len
    }
}

impl Memory {
    /// Zeroed host memory.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Map`].
    pub fn anonymous(len: ByteLen) -> Result<Self, MemoryError> {
        Self::map(len, |bytes, protection, flags| {
            // SAFETY: the kernel chooses a free address.
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }
        })
    }

    /// The file's bytes from `offset` on, shared and writable.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Map`].
    pub fn shared(fd: BorrowedFd<'_>, offset: u64, len: ByteLen) -> Result<Self, MemoryError> {
        Self::map(len, |bytes, protection, flags| {
            // SAFETY: the kernel chooses a free address.
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, protection, flags, fd, offset) }
        })
    }

    fn map(
        len: ByteLen,
        map: impl FnOnce(usize, ProtFlags, MapFlags) -> rustix::io::Result<*mut c_void>,
    ) -> Result<Self, MemoryError> {
        let failed =
            |errno: rustix::io::Errno| MemoryError::Map { len, source: Errno::new(errno.raw_os_error()) };
        let bytes = len.to_usize().ok_or(failed(rustix::io::Errno::NOMEM))?;
        let start = map(bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED).map_err(failed)?;
        let start = NonNull::new(start.cast()).ok_or(failed(rustix::io::Errno::FAULT))?;
        Ok(Self { start, len: bytes, turn: Mutex::new(()) })
    }

    /// Copies `bytes` into the memory.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let target = self.at(offset, bytes.len())?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in words(target.as_ptr() as usize, bytes.len()) {
            let to = target.as_ptr().wrapping_add(piece.offset);
            let from = &bytes[piece.offset..];
            match from.first_chunk::<8>().filter(|_| piece.word) {
                // SAFETY: in bounds as checked by `at`, and aligned as `words` promises.
                Some(word) => unsafe { to.cast::<u64>().write_volatile(u64::from_ne_bytes(*word)) },
                // SAFETY: in bounds as checked by `at`.
                None => unsafe { to.write_volatile(from[0]) },
            }
        }
        Ok(())
    }

    /// Copies bytes out of the memory.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let source = self.at(offset, bytes.len())?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in words(source.as_ptr() as usize, bytes.len()) {
            let from = source.as_ptr().wrapping_add(piece.offset);
            let to = &mut bytes[piece.offset..];
            match to.first_chunk_mut::<8>().filter(|_| piece.word) {
                // SAFETY: in bounds as checked by `at`, and aligned as `words` promises.
                Some(word) => *word = unsafe { from.cast::<u64>().read_volatile() }.to_ne_bytes(),
                // SAFETY: in bounds as checked by `at`.
                None => to[0] = unsafe { from.read_volatile() },
            }
        }
        Ok(())
    }

    /// Copies `len` bytes, from `from` on in `source`, to `offset` here. Offsets that are multiples of 8 are fastest.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn copy_from(
        &self,
        offset: usize,
        source: &Self,
        from: usize,
        len: usize,
    ) -> Result<(), MemoryError> {
        const CHUNK: usize = 4096;
        self.at(offset, len)?;
        source.at(from, len)?;
        // Through a buffer that stays in the CPU's cache, since a copy takes its turn on one of the two at a time.
        let mut chunk = [0; CHUNK];
        for done in (0..len).step_by(CHUNK) {
            let chunk = &mut chunk[..CHUNK.min(len - done)];
            source.read(from + done, chunk)?;
            self.write(offset + done, chunk)?;
        }
        Ok(())
    }

    /// Where the `len` bytes from `offset` on are, if they lie inside.
    pub(crate) fn at(&self, offset: usize, len: usize) -> Result<NonNull<u8>, MemoryError> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let [len, mapped] = [len, self.len].map(ByteLen::from_usize);
            return Err(MemoryError::OutOfBounds { offset, len, mapped });
        }
        // SAFETY: the sum lies within the mapping.
        Ok(unsafe { self.start.add(offset) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by this value, which promised it to nobody for longer.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) } {
            tracing::warn!(%error, "mapping leaked");
        }
    }
}

/// One access of a copy.
struct Piece {
    offset: usize,
    /// Eight bytes at an aligned address; otherwise one byte.
    word: bool,
}

/// Cuts `len` bytes at `address` into aligned words, and bytes before and after them.
fn words(address: usize, len: usize) -> impl Iterator<Item = Piece> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let word = (address + offset).is_multiple_of(8) && len - offset >= 8;
        let piece = (offset < len).then_some(Piece { offset, word });
        offset += if word { 8 } else { 1 };
        piece
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_at_every_alignment() {
        let memory = Memory::anonymous(ByteLen::new(4096)).unwrap();
        for offset in 0..16 {
            for len in 0..40_u8 {
                let written: Vec<u8> = (0..len).map(|i| i.wrapping_mul(37) ^ 0xa5).collect();
                memory.write(offset, &written).unwrap();
                let mut read = vec![0; written.len()];
                memory.read(offset, &mut read).unwrap();
                assert_eq!(read, written, "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn the_end_is_not_passed() {
        let memory = Memory::anonymous(ByteLen::new(4096)).unwrap();
        assert!(memory.write(4096, &[]).is_ok());
        assert!(matches!(memory.write(4095, &[1, 2]), Err(MemoryError::OutOfBounds { .. })));
        assert!(memory.read(usize::MAX, &mut [0]).is_err());
    }

    #[test]
    fn an_impossible_size_is_refused() {
        assert!(matches!(Memory::anonymous(ByteLen::new(1 << 62)), Err(MemoryError::Map { .. })));
    }
}
