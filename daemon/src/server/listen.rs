//! Taking the socket's place in the file system: once, and over a dead daemon's remains.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt},
};
use thiserror::Error;

/// Why the socket can't be served.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody serves it already.
    #[error(
        "another peermemd serves {}: stop it (`systemctl stop peermemd.socket peermemd`), or give this one another --socket",
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
    /// systemd passed something that can't be served.
    #[error("socket {name}, which systemd passed, can't be served: {why}")]
    NotListening {
        /// The socket unit.
        name: String,
        /// What is wrong with it.
        why: String,
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

/// The socket being served.
#[derive(Debug)]
pub struct Listening {
    /// What to accept from; it doesn't block.
    pub listener: UnixListener,
    /// Removes the socket's file when dropped, if this process has put it there.
    pub guard: Guard,
}

/// Holds the lock beside the socket, so that of two daemons only one may touch the path.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    /// `None` for a socket that systemd has bound: its file stays, and clients wait there for the next daemon.
    lock: Option<File>,
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
        if self.lock.is_some() {
            let _ = fs::remove_file(&self.path);
        }
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
        Err(Errno::WOULDBLOCK) => return Err(BindError::AlreadyServed { path: path.to_owned() }),
        Err(errno) => return Err(failed("lock", &lock_path)(errno.into())),
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            // No lock is held for a socket of systemd's.
            if is_listened_at(path).map_err(failed("look who listens at", path))? {
                return Err(BindError::AlreadyServed { path: path.to_owned() });
            }
            tracing::info!(path = %path.display(), "removing the socket of a daemon that is gone");
            fs::remove_file(path).map_err(failed("remove the stale socket", path))?;
        }
        Ok(_) => return Err(BindError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", path)(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed("bind", path))?;
    listener.set_nonblocking(true).map_err(failed("watch", path))?;
    let guard = Guard { path: path.to_owned(), lock: Some(lock) };
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of", path))?;
    Ok(Listening { listener, guard })
}

/// Whether connections are taken there, now or when their listener gets to them.
fn is_listened_at(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(connect(&socket, &address) != Err(Errno::CONNREFUSED))
}

/// Serves a socket that systemd has bound and passed on.
///
/// # Errors
/// [`BindError::NotListening`] for anything else than a Unix stream socket that listens at a path.
pub fn adopt(name: &str, fd: OwnedFd) -> Result<Listening, BindError> {
    let wrong = |why: &str| BindError::NotListening { name: name.to_owned(), why: why.to_owned() };
    let listens = sockopt::socket_acceptconn(&fd).map_err(|errno| wrong(&errno.to_string()))?;
    let kind = sockopt::socket_type(&fd).map_err(|errno| wrong(&errno.to_string()))?;
    if !listens || kind != SocketType::STREAM {
        return Err(wrong("it isn't a stream socket that listens (`ListenStream=`)"));
    }
    let listener = UnixListener::from(fd);
    let address = listener.local_addr().map_err(|error| wrong(&error.to_string()))?;
    let path = address.as_pathname().ok_or_else(|| wrong("it isn't a Unix socket with a path"))?.to_owned();
    listener.set_nonblocking(true).map_err(|error| wrong(&error.to_string()))?;
    Ok(Listening { listener, guard: Guard { path, lock: None } })
}
