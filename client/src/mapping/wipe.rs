//! Nothing of ours for the next one.
#![allow(unsafe_code)]

use std::{fs::File, io, os::fd::AsRawFd};

use super::Mapping;

impl Mapping {
    /// Overwrites the memory with zeroes before it goes back to a pool that doesn't clear it (`p2pmem_alloc_mmap` in
    /// drivers/pci/p2pdma.c): whoever maps next might get it before the daemon has it back.
    ///
    /// # Errors
    /// Where the device is gone, and the memory with it: the kernel copies, and says so, where a store would raise `SIGBUS`.
    pub(super) fn wipe(&self) -> io::Result<()> {
        let zeroes = File::open("/dev/zero")?;
        let mut done = 0;
        while done < self.len() {
            let at = self.as_ptr().wrapping_add(done);
            // SAFETY:
            // * `done < len`, so that `at` to `at + (len - done)` lies inside this mapping, which is alive and writable for as
            //   long as `self` is borrowed;
            // * the memory is never behind a reference, so nobody relies on its not changing.
            let read = unsafe { libc::read(zeroes.as_raw_fd(), at.cast(), self.len() - done) };
            match usize::try_from(read) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(zeroed) => done += zeroed,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}
