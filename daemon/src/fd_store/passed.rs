//! What the environment says of descriptors that were passed at start: `sd_listen_fds_with_names(3)`.
//!
//! `sd_notify::listen_fds_with_names` reads the same, and marks them close-on-exec at once; that would hide which ones were
//! inherited (see [`take_inherited`](crate::sys::take_inherited)).

use std::{io, os::fd::RawFd};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// The passed descriptors and their names, where they are meant for the process `pid`.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when the variables contradict each other.
pub(super) fn listed(
    pid: u32,
    variable: impl Fn(&str) -> Option<String>,
) -> io::Result<Vec<(RawFd, String)>> {
    let wrong = |name: &str, value: &str| {
        io::Error::new(io::ErrorKind::InvalidData, format!("systemd can't have set {name}={value:?}"))
    };
    // Another's, inherited by this process over a shell for example.
    if variable("LISTEN_PID").is_none_or(|text| text.parse() != Ok(pid)) {
        return Ok(Vec::new());
    }
    let Some(text) = variable("LISTEN_FDS") else { return Ok(Vec::new()) };
    let count = text.parse::<u16>().map_err(|_| wrong("LISTEN_FDS", &text))?;
    let numbers = FIRST..FIRST + RawFd::from(count);
    match variable("LISTEN_FDNAMES") {
        Some(names) if names.split(':').count() == usize::from(count) => {
            Ok(numbers.zip(names.split(':').map(str::to_owned)).collect())
        }
        Some(names) => Err(wrong("LISTEN_FDNAMES", &names)),
        None => Ok(numbers.map(|number| (number, "unknown".to_owned())).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed_in(variables: &[(&str, &str)]) -> io::Result<Vec<(RawFd, String)>> {
        listed(7, |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn descriptors_and_names_belong_together() {
        let both =
            listed_in(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "region-1:x.socket")]);
        assert_eq!(both.unwrap(), [(3, "region-1".to_owned()), (4, "x.socket".to_owned())]);
        let unnamed = listed_in(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "1")]);
        assert_eq!(unnamed.unwrap(), [(3, "unknown".to_owned())]);
    }

    #[test]
    fn nothing_or_another_process_is_nothing() {
        for variables in [&[][..], &[("LISTEN_PID", "8"), ("LISTEN_FDS", "x")], &[("LISTEN_PID", "7")]] {
            assert!(listed_in(variables).unwrap().is_empty());
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (count, names) in
            [("2", "one"), ("1", "one:two"), ("0", ""), ("-1", "one"), ("4000000000", "one")]
        {
            let listed = listed_in(&[("LISTEN_PID", "7"), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]);
            assert_eq!(listed.unwrap_err().kind(), io::ErrorKind::InvalidData, "{count} {names}");
        }
    }
}
