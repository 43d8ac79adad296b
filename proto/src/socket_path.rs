//! Where the daemon's socket is: the one rule that the daemon and its clients share.
//!
//! The first of: the path given by name, [`VARIABLE`], [`SYSTEM_SOCKET`] if something is there or for root, whose own daemon would
//! listen there, and [`user_socket`], where an ordinary user's own daemon listens. Nothing here looks at the machine: the caller
//! brings the values.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The environment variable that names the socket.
pub const VARIABLE: &str = "PEERMEMD_SOCKET";

/// The system's daemon listens here.
pub const SYSTEM_SOCKET: &str = "/run/peermemd/peermemd.sock";

/// What the rule depends on, as read from the process's environment.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The value of [`VARIABLE`].
    pub variable: Option<&'a OsStr>,
    /// The value of `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<&'a OsStr>,
    /// The effective user id.
    pub uid: u32,
}

/// A socket's path, and which part of the rule chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPath {
    /// Somebody named it, by an argument or by [`VARIABLE`].
    Given(PathBuf),
    /// [`SYSTEM_SOCKET`].
    System,
    /// [`user_socket`]: hold its folder against [`check_folder`] before trusting what listens there.
    User(PathBuf),
}

impl SocketPath {
    /// Applies the rule. `exists` says whether something is at a path; what can't be looked at counts as there, so
    /// that connecting tells why.
    pub fn find(
        explicit: Option<&Path>,
        surroundings: Surroundings<'_>,
        exists: impl FnOnce(&Path) -> bool,
    ) -> Self {
        let variable = surroundings.variable.filter(|value| !value.is_empty()).map(Path::new);
        if let Some(path) = explicit.or(variable) {
            Self::Given(path.to_owned())
        } else if surroundings.uid == 0 || exists(Path::new(SYSTEM_SOCKET)) {
            Self::System
        } else {
            Self::User(user_socket(surroundings.uid, surroundings.runtime_dir))
        }
    }

    /// The path itself.
    pub fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::User(path) => path,
            Self::System => Path::new(SYSTEM_SOCKET),
        }
    }
}

/// Where the daemon of an ordinary user listens: below `XDG_RUNTIME_DIR`, or below `/tmp` where that isn't set (or
/// isn't absolute, which the XDG base directory specification tells everyone to ignore).
pub fn user_socket(uid: u32, runtime_dir: Option<&OsStr>) -> PathBuf {
    let folder = match runtime_dir.map(Path::new).filter(|dir| dir.is_absolute()) {
        Some(dir) => dir.join("peermemd"),
        None => PathBuf::from(format!("/tmp/peermemd-{uid}")),
    };
    folder.join("peermemd.sock")
}

/// Why a socket's folder can't be trusted: somebody else could have put the socket there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UntrustedFolder {
    /// A file or a symbolic link.
    #[error("it isn't a folder")]
    NotAFolder,
    /// It belongs to someone else.
    #[error("it belongs to uid {owner}, not to uid {uid}")]
    Owner {
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        uid: u32,
    },
    /// Others may put a socket there.
    #[error("others may write to it (mode {mode:04o}): make it 0700")]
    Writable {
        /// Its permission bits.
        mode: u32,
    },
}

/// Checks the folder of [`user_socket`], which stands below the world-writable `/tmp` at times.
///
/// `owner` and `mode` are `st_uid` and `st_mode` as `lstat(2)` gives them.
///
/// # Errors
/// [`UntrustedFolder`]: don't listen there, and don't believe who does.
pub const fn check_folder(uid: u32, owner: u32, mode: u32) -> Result<(), UntrustedFolder> {
    const TYPE: u32 = 0o170_000;
    const FOLDER: u32 = 0o040_000;
    if mode & TYPE != FOLDER {
        Err(UntrustedFolder::NotAFolder)
    } else if owner != uid {
        Err(UntrustedFolder::Owner { owner, uid })
    } else if mode & 0o022 != 0 {
        Err(UntrustedFolder::Writable { mode: mode & 0o7777 })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(explicit: Option<&str>, variable: &str, system: bool) -> SocketPath {
        let surroundings = Surroundings {
            variable: Some(OsStr::new(variable)),
            runtime_dir: Some(OsStr::new("/run/user/7")),
            uid: 7,
        };
        SocketPath::find(explicit.map(Path::new), surroundings, |path| {
            assert_eq!(path, Path::new(SYSTEM_SOCKET));
            system
        })
    }

    #[test]
    fn the_more_explicit_wins() {
        assert_eq!(find(Some("/a"), "/b", true).path(), Path::new("/a"));
        assert_eq!(find(None, "/b", true).path(), Path::new("/b"));
        assert_eq!(find(None, "", true), SocketPath::System);
        assert_eq!(find(None, "", false), SocketPath::User("/run/user/7/peermemd/peermemd.sock".into()));
    }

    #[test]
    fn root_has_no_socket_but_the_systems() {
        let surroundings = Surroundings { variable: None, runtime_dir: None, uid: 0 };
        assert_eq!(SocketPath::find(None, surroundings, |_| false), SocketPath::System);
    }

    #[test]
    fn without_a_runtime_folder_the_users_socket_is_below_tmp() {
        for dir in [None, Some(OsStr::new("")), Some(OsStr::new("relative"))] {
            assert_eq!(user_socket(7, dir), Path::new("/tmp/peermemd-7/peermemd.sock"));
        }
    }

    #[test]
    fn a_folder_that_others_could_have_made_is_not_trusted() {
        assert_eq!(check_folder(7, 7, 0o040_700), Ok(()));
        assert_eq!(check_folder(7, 7, 0o040_755), Ok(()));
        assert_eq!(check_folder(7, 7, 0o120_777), Err(UntrustedFolder::NotAFolder));
        assert_eq!(check_folder(7, 8, 0o040_700), Err(UntrustedFolder::Owner { owner: 8, uid: 7 }));
        assert_eq!(check_folder(7, 7, 0o040_770), Err(UntrustedFolder::Writable { mode: 0o770 }));
        assert_eq!(check_folder(7, 7, 0o041_777), Err(UntrustedFolder::Writable { mode: 0o1777 }));
    }
}
