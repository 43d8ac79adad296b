//! What can go wrong between here and the daemon.

use std::{io, path::PathBuf, time::Duration};

use peermem_proto::{PROTOCOL_VERSION, socket_path::UntrustedFolder, varlink::CallError};
use peermem_wire::TooLong;
use thiserror::Error;

use super::Holding;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nothing is at the path.
    #[error(
        "no socket at {}: is peermemd running? `systemctl start peermemd`, or `peermemd --emulate 64MiB` to try it",
        path.display()
    )]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The socket's or its folder's permissions.
    #[error(
        "no permission to connect to {}: join the group `peermem` (`usermod -aG peermem USER`, then log in again)",
        path.display()
    )]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// A socket without a listener.
    #[error(
        "nobody listens at {}: peermemd has ended and left its socket (start it again), or this is no socket",
        path.display()
    )]
    NobodyListens {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody else could have put the socket where the user's own daemon would have it.
    #[error("the socket's folder {} isn't trusted", folder.display())]
    UntrustedFolder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: UntrustedFolder,
    },
    /// The socket's queue stayed full.
    #[error("peermemd at {} didn't take the connection within {after:?}: it is stuck or flooded", path.display())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// Anything else that `connect(2)` says.
    #[error("can't connect to {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The daemon speaks another version and didn't refuse ours.
    #[error("peermemd at {} speaks protocol {theirs}, this client {PROTOCOL_VERSION}: update the older side", path.display())]
    WrongVersion {
        /// The socket.
        path: PathBuf,
        /// The daemon's version.
        theirs: u32,
    },
    /// The first call failed.
    #[error("peermemd at {} didn't accept the connection", path.display())]
    Greeting {
        /// The socket.
        path: PathBuf,
        /// The refusal, or the loss.
        source: CallFailed,
    },
}

impl ConnectError {
    /// Puts a failed `connect(2)` in words.
    pub(super) fn new(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { path },
            io::ErrorKind::ConnectionRefused => Self::NobodyListens { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Why a call has no result.
#[derive(Debug, Error)]
pub enum CallFailed {
    /// The daemon answered, with an error. The connection goes on.
    #[error(transparent)]
    Answered(#[from] CallError),
    /// The daemon didn't come back in time, or the connection can't be trusted any more; [`Trouble`] says which. In the
    /// second case connect again: the daemon takes back every lease of this connection as soon as it is closed.
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    /// The daemon doesn't have it any more, or somebody else has it. What was mapped or registered of it isn't this
    /// process's to use: drop that.
    #[error(
        "{0} is lost: it has ended, was passed on, or peermemd was away for longer than leases wait, or has lost its \
         journal. Drop its memory regions and mappings, and map again"
    )]
    HoldingLost(Holding),
    /// The reply's descriptors found no room in this process. The connection goes on; what was granted is given back.
    #[error("no free file descriptor for the reply of {method}: raise this process's limit (`ulimit -n`)")]
    NoFreeDescriptor {
        /// The call.
        method: &'static str,
    },
    /// The call couldn't be written as JSON, or its descriptor not duplicated.
    #[error("can't send {method}")]
    Unsendable {
        /// The call.
        method: &'static str,
        /// The reason.
        source: io::Error,
    },
}

/// A connection that can't be used any more.
#[derive(Debug, Error)]
#[error("the connection to peermemd at {} is lost ({method})", socket.display())]
pub struct ConnectionError {
    /// The socket.
    pub socket: PathBuf,
    /// The call that was under way, or tried.
    pub method: &'static str,
    /// What happened.
    #[source]
    pub trouble: Trouble,
}

/// What made a connection unusable.
#[derive(Debug, Error)]
pub enum Trouble {
    /// A system call on the socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
    /// The daemon went away before it answered.
    #[error("peermemd closed it: has it ended? See `systemctl status peermemd`")]
    Closed,
    /// The daemon went away inside a reply.
    #[error("peermemd closed it in the middle of a reply: has it crashed? See `journalctl -u peermemd`")]
    ClosedInside,
    /// A reply without an end.
    #[error("the reply has no end")]
    TooLong(#[from] TooLong),
    /// Not JSON, or not the JSON that the method promises.
    #[error("the reply isn't what the method promises: do both sides have the same version?")]
    Malformed(#[source] serde_json::Error),
    /// More or fewer descriptors than the method promises.
    #[error("the reply brought {got} file descriptors where {expected} are due; all were closed")]
    Descriptors {
        /// How many came.
        got: usize,
        /// How many the method promises.
        expected: usize,
    },
    /// The reply points at a descriptor that didn't come.
    #[error("the reply names its file descriptor {index}, and {got} came")]
    DescriptorIndex {
        /// Which one it names, from 0.
        index: usize,
        /// How many came.
        got: usize,
    },
    /// A list whose next page doesn't follow the last one: reading on might never end.
    #[error("the pages of a list don't follow one another")]
    Pages,
    /// Bytes that answer no call.
    #[error("a reply came that nobody waits for")]
    Unsolicited,
    /// The daemon went away and isn't back. The next call looks again; what was leased is resumed if the daemon still
    /// has it by then.
    #[error("peermemd went away, and isn't back after {} s: see `systemctl status peermemd`", after.as_secs())]
    NotBack {
        /// How long it is away.
        after: Duration,
        /// Why the latest attempt to connect failed.
        source: Box<ConnectError>,
    },
    /// No reply in time. A late one could be taken for the next call's, hence the end.
    #[error("no reply within {after:?}, and a late one must not be mistaken for the next: connect again")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// An earlier call ended in doubt.
    #[error("it was given up earlier ({because}): connect again")]
    GivenUp {
        /// What happened then.
        because: String,
    },
}

impl Trouble {
    /// Whether the daemon has gone, with nothing in doubt but whether it carried out the call.
    pub(super) fn is_hangup(&self) -> bool {
        match self {
            Self::Closed | Self::ClosedInside => true,
            Self::Io(error) => {
                matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
            }
            _ => false,
        }
    }
}
