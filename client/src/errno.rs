//! Error numbers of the kernel, in words, the kernel-internal ones included.
//!
//! Drivers let numbers above 511 escape to user space although `include/linux/errno.h` says that they never should. libc
//! has no text for them, and 524 (`ENOTSUPP`, what many a driver returns for a verb that it lacks) is easily taken for
//! 95 (`EOPNOTSUPP`).

use std::{fmt, io};

/// A positive error number of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

/// Number, name, and (where libc has no text for it) what it means.
type Entry = (i32, &'static str, Option<&'static str>);

/// What drivers, verbs and sockets answer with. Sources: `include/uapi/asm-generic/errno{,-base}.h`,
/// `include/linux/errno.h`.
const TABLE: &[Entry] = &[
    (1, "EPERM", None),
    (2, "ENOENT", None),
    (4, "EINTR", None),
    (5, "EIO", None),
    (6, "ENXIO", None),
    (9, "EBADF", None),
    (11, "EAGAIN", None),
    (12, "ENOMEM", None),
    (13, "EACCES", None),
    (14, "EFAULT", None),
    (16, "EBUSY", None),
    (17, "EEXIST", None),
    (19, "ENODEV", None),
    (22, "EINVAL", None),
    (23, "ENFILE", None),
    (24, "EMFILE", None),
    (25, "ENOTTY", None),
    (28, "ENOSPC", None),
    (32, "EPIPE", None),
    (34, "ERANGE", None),
    (38, "ENOSYS", None),
    (61, "ENODATA", None),
    (71, "EPROTO", None),
    (75, "EOVERFLOW", None),
    (90, "EMSGSIZE", None),
    (93, "EPROTONOSUPPORT", None),
    (95, "EOPNOTSUPP", None),
    (97, "EAFNOSUPPORT", None),
    (98, "EADDRINUSE", None),
    (99, "EADDRNOTAVAIL", None),
    (100, "ENETDOWN", None),
    (101, "ENETUNREACH", None),
    (103, "ECONNABORTED", None),
    (104, "ECONNRESET", None),
    (105, "ENOBUFS", None),
    (110, "ETIMEDOUT", None),
    (111, "ECONNREFUSED", None),
    (113, "EHOSTUNREACH", None),
    (121, "EREMOTEIO", None),
    (125, "ECANCELED", None),
    (512, "ERESTARTSYS", Some("interrupted by a signal (kernel-internal)")),
    (513, "ERESTARTNOINTR", Some("interrupted by a signal (kernel-internal)")),
    (514, "ERESTARTNOHAND", Some("interrupted by a signal (kernel-internal)")),
    (515, "ENOIOCTLCMD", Some("the driver has no such ioctl command (kernel-internal)")),
    (516, "ERESTART_RESTARTBLOCK", Some("interrupted by a signal (kernel-internal)")),
    (517, "EPROBE_DEFER", Some("the driver waits for another driver (kernel-internal)")),
    (521, "EBADHANDLE", Some("illegal file handle (kernel-internal)")),
    (524, "ENOTSUPP", Some("the driver doesn't support this operation (kernel-internal, not 95 EOPNOTSUPP)")),
    (525, "ETOOSMALL", Some("the buffer or request is too small (kernel-internal)")),
    (529, "EIOCBQUEUED", Some("queued, completion will follow (kernel-internal)")),
];

impl Errno {
    /// The number that the last failed call of this thread left in `errno`.
    pub fn last() -> Self {
        Self::from(&io::Error::last_os_error())
    }

    /// Takes the number as kernel or library gave it, positive or negated.
    pub const fn new(number: i32) -> Self {
        Self(number.wrapping_abs())
    }

    /// The number, positive.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// The symbolic name, where this table knows it.
    pub fn name(self) -> Option<&'static str> {
        TABLE.iter().find(|(number, ..)| *number == self.0).map(|(_, name, _)| *name)
    }
}

impl From<&io::Error> for Errno {
    /// An error without a number, which no system call makes, becomes `EIO`.
    fn from(error: &io::Error) -> Self {
        Self::new(error.raw_os_error().unwrap_or(5))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = TABLE.iter().find(|(number, ..)| *number == self.0);
        match entry {
            Some((number, name, Some(text))) => write!(f, "{name} ({number}): {text}"),
            Some((number, name, None)) => {
                let text = io::Error::from_raw_os_error(*number).to_string();
                let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
                write!(f, "{name} ({number}): {text}")
            }
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_words() {
        assert_eq!(Errno::new(14).to_string(), "EFAULT (14): Bad address");
        assert_eq!(Errno::new(-12).name(), Some("ENOMEM"));
        assert_eq!(Errno::new(4000).to_string(), "errno 4000");
    }

    #[test]
    fn enotsupp_is_not_eopnotsupp() {
        let internal = Errno::new(524).to_string();
        assert!(internal.starts_with("ENOTSUPP (524)"), "{internal}");
        assert!(Errno::new(95).to_string().starts_with("EOPNOTSUPP (95)"));
    }

    #[test]
    fn every_number_is_listed_once_and_in_order() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }
}
