//! Finding the socket on this machine, and one attempt to connect to it.

use std::{
    env, fs, io,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use peermem_proto::socket_path::{SocketPath, Surroundings, VARIABLE, check_folder};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::ConnectError;

/// The path to connect to when nobody named one: see [`peermem_proto::socket_path`] for the rule.
///
/// # Errors
/// [`ConnectError::UntrustedFolder`].
pub(super) fn find() -> Result<PathBuf, ConnectError> {
    let uid = rustix::process::geteuid().as_raw();
    let (variable, runtime_dir) = (env::var_os(VARIABLE), env::var_os("XDG_RUNTIME_DIR"));
    let surroundings =
        Surroundings { variable: variable.as_deref(), runtime_dir: runtime_dir.as_deref(), uid };
    let found = SocketPath::find(None, surroundings, |path| path.try_exists().unwrap_or(true));
    if let SocketPath::User(path) = &found
        && let Some(folder) = path.parent()
        && let Ok(metadata) = fs::symlink_metadata(folder)
    {
        check_folder(uid, metadata.uid(), metadata.mode())
            .map_err(|source| ConnectError::UntrustedFolder { folder: folder.to_owned(), source })?;
    }
    Ok(found.path().to_owned())
}

/// Connects without waiting; the socket never blocks afterwards either.
///
/// # Errors
/// `WouldBlock` while the listener's queue is full (`unix_stream_connect` in net/unix/af_unix.c); else what
/// `connect(2)` says.
pub(super) fn try_connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

/// How long to wait before the next attempt while the listener's queue is full: no event tells when it isn't.
pub(super) const RETRY: Duration = Duration::from_millis(10);
