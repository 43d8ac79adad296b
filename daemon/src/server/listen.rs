//! Taking the socket's place in the file system: once, and over a dead daemon's remains.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// Why the socket can't be served.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody serves it already.
    #[error(
        "another peermemd serves {}: stop it (`systemctl stop peermemd`), or give this one another --socket",
        path.display()
    )]
    AlreadyServed {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} exists and isn't a socket: move it away, or give another --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A step failed.
    #[error("can't {step} {}", path.display())]
    Io {
        /// The step.
        step: &'static str,
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The socket being served. Its file goes away with it.
#[derive(Debug)]
pub struct Listening {
    /// What to accept from; it doesn't block.
    pub listener: UnixListener,
    /// Removes the socket's file when dropped.
    pub guard: Guard,
}

/// Holds the lock beside the socket, so that of two daemons only one may touch the path.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    _lock: File,
}

impl Guard {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The lock is still held: nobody else's socket can be there. The lock file stays, since removing it would let
        // two daemons hold locks on two files of one name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds `path` for its owner and group, replacing the socket of a daemon that died.
///
/// # Errors
/// [`BindError`].
pub fn bind(path: &Path) -> Result<Listening, BindError> {
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| BindError::Io { step, path, source }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created.map_err(failed("create the folder", folder))?,
        }
    }
    let lock_path = path.with_added_extension("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(failed("open the lock", &lock_path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(BindError::AlreadyServed { path: path.to_owned() }),
        Err(errno) => return Err(failed("lock", &lock_path)(errno.into())),
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            tracing::info!(path = %path.display(), "removing the socket of a daemon that is gone");
            fs::remove_file(path).map_err(failed("remove the stale socket", path))?;
        }
        Ok(_) => return Err(BindError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", path)(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed("bind", path))?;
    listener.set_nonblocking(true).map_err(failed("watch", path))?;
    let guard = Guard { path: path.to_owned(), _lock: lock };
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of", path))?;
    Ok(Listening { listener, guard })
}
