//! Who was granted what, and who was refused what: to the log, or to a journal of its own.
//!
//! systemd moves the whole log of a service to another journal (`LogNamespace=`), and no part of it. So where the config names a
//! namespace, records are sent to that journal's socket, whatever the log's filter says; what can't be written there goes to the log,
//! and nothing is lost.

use std::{
    io,
    path::{Path, PathBuf},
};

mod namespace;
mod native;
mod record;
mod socket;

pub use namespace::{Namespace, NamespaceError};
pub use record::{Kind, Record};
use socket::Socket;

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// To the log, where no namespace is named.
    Log,
    /// To the namespace.
    Namespace,
    /// To the log, since the namespace couldn't be written.
    Diverted,
}

impl Written {
    /// As metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Namespace => "namespace",
            Self::Diverted => "diverted",
        }
    }
}

/// Where records go.
#[derive(Debug, Default)]
pub struct Audit(Option<Stream>);

impl Audit {
    /// To the journal of this namespace, or to the log. The journal is tried, so that what is wrong is said now, and not at the first
    /// grant.
    pub fn to(namespace: Option<&Namespace>) -> Self {
        Self(namespace.and_then(|namespace| Stream::open(namespace, namespace.socket())))
    }

    /// Writes a record.
    pub fn write(&mut self, record: &Record<'_>) -> Written {
        let written = match &mut self.0 {
            None => Written::Log,
            Some(stream) => match stream.send(&native::encode(record)) {
                true => return Written::Namespace,
                false => Written::Diverted,
            },
        };
        record.log();
        written
    }
}

/// A journal of another namespace.
#[derive(Debug)]
struct Stream {
    namespace: Namespace,
    path: PathBuf,
    socket: Socket,
    reached: bool,
}

impl Stream {
    fn open(namespace: &Namespace, path: PathBuf) -> Option<Self> {
        let socket = Socket::new().inspect_err(|error| {
            tracing::error!(%error, "no socket for journal namespace {namespace}: grants and refusals go to this log");
        });
        let mut stream = Self { namespace: namespace.clone(), path, socket: socket.ok()?, reached: true };
        // journald takes no notice of an empty record (src/journal/journald-server.c, server_process_datagram).
        if stream.send(&[]) {
            tracing::info!("grants and refusals go to journal namespace {namespace}");
        }
        Some(stream)
    }

    /// Whether it arrived. Says once that it doesn't, and once that it does again.
    fn send(&mut self, record: &[u8]) -> bool {
        let sent = self.socket.send(record, &self.path, self.reached);
        if sent.is_ok() != self.reached {
            self.reached = sent.is_ok();
            match &sent {
                Ok(()) => {
                    tracing::info!("journal namespace {} takes grants and refusals again", self.namespace);
                }
                Err(error) => say_unreached(&self.namespace, &self.path, error),
            }
        }
        sent.is_ok()
    }
}

fn say_unreached(namespace: &Namespace, path: &Path, error: &io::Error) {
    let socket_unit = format!("systemd-journald@{namespace}.socket");
    tracing::warn!(
        "journal namespace {namespace} can't be written, so grants and refusals go to this log: {}: {error}. Is {socket_unit} active? \
         It stays so while a unit wants it, as peermemd.service does with `Wants={socket_unit}`",
        path.display()
    );
}

#[cfg(test)]
mod tests;
