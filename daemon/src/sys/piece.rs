//! Device memory that this process has mapped in order to have it, not to use it.

use std::{
    ffi::c_void,
    fs::File,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::Arc,
};

use peermem_proto::ByteLen;
use rustix::{
    io::{self, Errno},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
    param::page_size,
};

/// A mapping of memory that a device's driver hands out by mmap, such as `p2pmem/allocate`. The memory goes back to the
/// driver when this is dropped.
///
/// Its bytes are never touched by an instruction of this process: once the device is unplugged, that would be a
/// `SIGBUS`. The kernel touches them instead, and reports `EFAULT`.
#[derive(Debug)]
pub struct Piece {
    start: NonNull<c_void>,
    /// In bytes: whole pages, at least one.
    length: usize,
    /// `/dev/zero`. Opened once, so that zeroing can fail for one reason only: there is no memory any more.
    zeroes: Arc<File>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and only the owner of the value acts on it.
unsafe impl Send for Piece {}

impl Piece {
    /// Maps `length` bytes, rounded up to whole pages, of what `allocator` has. `zeroes` is an open `/dev/zero`.
    ///
    /// # Errors
    /// What `mmap(2)` says. Of `p2pmem/allocate` (`p2pmem_alloc_mmap` in drivers/pci/p2pdma.c): `ENOMEM` where no free run is
    /// that long, `ENODEV` once the device is gone.
    pub fn map(allocator: BorrowedFd<'_>, length: ByteLen, zeroes: Arc<File>) -> io::Result<Self> {
        let length = length.to_usize().and_then(|bytes| bytes.checked_next_multiple_of(page_size()));
        let length = length.ok_or(Errno::NOMEM)?;
        // SAFETY: the kernel chooses an address range that nothing else occupies.
        let start = unsafe {
            mmap(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, allocator, 0)?
        };
        let piece = Self { start: NonNull::new(start).ok_or(Errno::FAULT)?, length, zeroes };
        // A child would keep the memory when this process has given it back.
        // SAFETY: the advice changes what fork(2) does with the range, which is all of this mapping, and no byte of it.
        unsafe { madvise(start, length, Advice::LinuxDontFork)? };
        Ok(piece)
    }

    /// Its length: whole pages, at least one.
    pub fn length(&self) -> ByteLen {
        ByteLen::from_usize(self.length)
    }

    /// Cuts off the first `length` bytes; `None` unless these are whole pages, at least one, and at least one remains.
    pub fn split_off(&mut self, length: ByteLen) -> Option<Self> {
        let length = length.to_usize().filter(|bytes| bytes.is_multiple_of(page_size()))?;
        if length == 0 || length >= self.length {
            return None;
        }
        let front = Self { start: self.start, length, zeroes: Arc::clone(&self.zeroes) };
        // SAFETY: `length` is less than the mapping's, so the sum lies inside it.
        self.start = unsafe { self.start.byte_add(length) };
        self.length -= length;
        Some(front)
    }

    /// Fills it with zeroes. That takes as long as the CPU needs to write that much to the device: not for a thread
    /// that others wait for.
    ///
    /// # Errors
    /// `EFAULT` when the device is gone.
    pub fn zero(&mut self) -> io::Result<()> {
        let mut done = 0;
        while done < self.length {
            let at = self.start.as_ptr().wrapping_byte_add(done);
            // SAFETY:
            // * `at` to the end lies inside this mapping, which is alive, and borrowed by nobody else;
            // * the memory is never behind a reference, so nobody relies on its not changing.
            let read = unsafe { libc::read(self.zeroes.as_raw_fd(), at, self.length - done) };
            match usize::try_from(read) {
                Ok(0) => return Err(Errno::NODATA),
                Ok(count) => done += count,
                Err(_) => match Errno::from_io_error(&std::io::Error::last_os_error()) {
                    // /dev/zero looks for signals after every page.
                    Some(Errno::INTR) => {}
                    errno => return Err(errno.unwrap_or(Errno::IO)),
                },
            }
        }
        Ok(())
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`, and belongs to this value alone: `split_off` divides, and never shares.
        if let Err(error) = unsafe { munmap(self.start.as_ptr(), self.length) } {
            tracing::error!(%error, "{} of device memory leak until the daemon ends", self.length());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::fs::FileExt as _};

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    const PAGES: usize = 3;

    fn filled_file() -> File {
        named_file("memory")
    }

    fn named_file(name: &str) -> File {
        let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC).unwrap());
        file.write_all_at(&vec![0x5a; PAGES * page_size()], 0).unwrap();
        file
    }

    fn map(file: &File) -> Piece {
        let zeroes = Arc::new(File::open("/dev/zero").unwrap());
        Piece::map(file.as_fd(), ByteLen::from_usize(PAGES * page_size()), zeroes).unwrap()
    }

    /// From where to where this process maps the memfd of that name.
    fn mapped(name: &str) -> Vec<(usize, usize)> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let lines = maps.lines().filter(|line| line.contains(&format!("/memfd:{name} ")));
        lines
            .map(|line| {
                let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
                let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
                (start, end)
            })
            .collect()
    }

    #[test]
    fn zeroing_a_part_leaves_the_rest() {
        let file = filled_file();
        let mut rest = map(&file);
        let mut front = rest.split_off(ByteLen::from_usize(page_size())).unwrap();
        front.zero().unwrap();
        let mut bytes = vec![0; PAGES * page_size()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let (zeroed, kept) = bytes.split_at(page_size());
        assert!(zeroed.iter().all(|byte| *byte == 0) && kept.iter().all(|byte| *byte == 0x5a));
        rest.zero().unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn memory_that_went_away_is_an_error_and_no_signal() {
        let file = filled_file();
        let mut piece = map(&file);
        file.set_len(0).unwrap();
        assert_eq!(piece.zero(), Err(Errno::FAULT));
    }

    #[test]
    fn dropping_a_part_unmaps_that_part() {
        let mut rest = map(&named_file("parted"));
        let [(start, end)] = mapped("parted")[..] else { panic!("one mapping") };
        drop(rest.split_off(ByteLen::from_usize(page_size())).unwrap());
        assert_eq!(mapped("parted"), [(start + page_size(), end)]);
        drop(rest);
        assert!(mapped("parted").is_empty());
    }

    #[test]
    fn a_child_does_not_inherit_it() {
        let _piece = map(&named_file("childless"));
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (_, ours) = maps.split_once("/memfd:childless ").unwrap();
        let flags = ours.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dc"), "{flags}");
    }

    #[test]
    fn only_whole_pages_come_off_and_never_all() {
        let file = filled_file();
        let mut piece = map(&file);
        for length in [0, 1, page_size() + 1, PAGES * page_size(), usize::MAX] {
            assert!(piece.split_off(ByteLen::from_usize(length)).is_none(), "{length}");
        }
        assert_eq!(piece.length(), ByteLen::from_usize(PAGES * page_size()));
    }
}
