//! Descriptors that this process was started with.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::{Mutex, PoisonError},
};

use nix::libc::{F_GETFD, FD_CLOEXEC, fcntl};
use rustix::io::{FdFlags, fcntl_setfd};

/// Held from the look at a descriptor until it is marked as taken.
static TAKING: Mutex<()> = Mutex::new(());

/// Takes the descriptor `number` that whoever started this process left open for it. It is close-on-exec from then on.
///
/// # Errors
/// `EBADF` when it isn't open; [`io::ErrorKind::InvalidInput`] when it is close-on-exec, which an inherited one can't be, and
/// one that was taken before is; the same for the standard streams.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if number <= 2 {
        return refused("a standard stream isn't anybody's to take");
    }
    let _one_at_a_time = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: `F_GETFD` takes no argument and changes nothing; a number that isn't open is an error.
    let flags = unsafe { fcntl(number, F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FD_CLOEXEC != 0 {
        return refused("it was opened by this program itself, or taken before");
    }
    // SAFETY: `OwnedFd` asks that the descriptor is open and that nobody else owns it.
    // * `fcntl` has just found it open, and it is none of the standard streams, which std uses without owning them;
    // * it isn't close-on-exec, so it came over `execve`, or was opened here without that flag. The standard library, rustix
    //   and tokio always set it, and no other code in this process opens anything;
    // * a second caller finds it close-on-exec: it is marked below, before the lock is given back.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_the_program_opened_itself_is_not_taken() {
        let file = std::fs::File::open("/dev/null").unwrap();
        for number in [file.as_raw_fd(), 0, 1, 2, -1] {
            assert_eq!(take_inherited(number).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(take_inherited(RawFd::MAX).unwrap_err().raw_os_error(), Some(nix::libc::EBADF));
    }
}
