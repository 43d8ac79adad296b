//! The groups of the process on the other side of a socket.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// The kernel's bound on a process's groups (`NGROUPS_MAX` in `include/uapi/linux/limits.h`), in bytes of group ids.
const LONGEST: libc::socklen_t = 65_536 * GID;
const GID: libc::socklen_t = 4;

/// The supplementary groups that the peer of a connected Unix socket had when it connected, or made the pair. The
/// primary group isn't among them, unless it is a supplementary one too.
///
/// # Errors
/// `ENODATA` on a socket without a peer, `ENOTSOCK`.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = Vec::new();
    // In bytes. Too little is answered with ERANGE and how much it takes (net/core/sock.c, sk_getsockopt).
    let mut length = 0;
    loop {
        let room = length;
        groups.resize((room / GID) as usize, 0);
        // SAFETY:
        // * `groups` owns `room` bytes, initialised, aligned for `gid_t` and borrowed by nothing else; the kernel writes at
        //   most `length` bytes to it, which is `room` now;
        // * every bit pattern that it may write is a `gid_t`;
        // * `length` is a valid `socklen_t` that outlives the call, as the descriptor does, being borrowed.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if answer == 0 {
            groups.truncate((length / GID) as usize);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || length <= room || length > LONGEST {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::net::UnixStream},
        thread,
    };

    use rustix::{
        process::{Gid, getgroups},
        thread::set_thread_groups,
    };

    use super::*;

    /// What the kernel says of both ends of a new pair.
    fn of_a_pair() -> Vec<u32> {
        let (one, other) = UnixStream::pair().unwrap();
        let groups = peer_groups(one.as_fd()).unwrap();
        assert_eq!(groups, peer_groups(other.as_fd()).unwrap());
        groups
    }

    #[test]
    fn they_are_those_of_the_process() {
        let own: Vec<u32> = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        assert_eq!(of_a_pair(), own);
    }

    #[test]
    fn there_may_be_none_and_there_may_be_as_many_as_the_kernel_permits() {
        for count in [0, 1, 1000, 65_536] {
            // A thread's groups are its own.
            let seen = thread::spawn(move || {
                let groups: Vec<Gid> = (0..count).map(|number| Gid::from_raw(100_000 + number)).collect();
                set_thread_groups(&groups).map(|()| of_a_pair())
            });
            match seen.join().unwrap() {
                Ok(seen) => assert_eq!(seen, (100_000..100_000 + count).collect::<Vec<u32>>()),
                Err(error) => return eprintln!("not run: only root sets groups ({error})"),
            }
        }
    }

    #[test]
    fn what_has_no_peer_is_an_error() {
        let (one, _) = std::io::pipe().unwrap();
        assert_eq!(peer_groups(one.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
        let no_unix = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(peer_groups(no_unix.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENODATA));
    }
}
