//! A daemon that says what the test wants, right or wrong.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

pub mod real;

use std::{
    fs::File,
    io::IoSlice,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    thread::{self, JoinHandle},
};

use peermem_wire::{Fill, Outgoing, Reader};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use serde_json::{Value, json};

/// Listens on a socket of its own until dropped, which also passes on a panic of its script.
pub struct Daemon {
    pub socket: PathBuf,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    /// Plays `script` with one connection after the other, one for each of `connections`.
    pub fn serving(connections: usize, script: impl Fn(&mut Peer, usize) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = thread::spawn(move || {
            // All stay open to the end: a script may be done before its client is.
            let mut peers = Vec::new();
            for turn in 0..connections {
                let mut peer = Peer { socket: listener.accept().unwrap().0, reader: Reader::new() };
                script(&mut peer, turn);
                peers.push(peer);
            }
        });
        Self { socket, thread: Some(thread), _folder: folder }
    }

    /// Plays `script` with one connection, after the greeting.
    pub fn greeting(script: impl Fn(&mut Peer) + Send + 'static) -> Self {
        Self::serving(1, move |peer, _| {
            peer.greet();
            script(peer);
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.expect("the daemon's script went as planned");
        }
    }
}

pub struct Peer {
    socket: UnixStream,
    reader: Reader,
}

impl Peer {
    pub fn greet(&mut self) {
        assert_eq!(self.expect("Hello")["protocol"], 1);
        self.reply(json!({ "protocol": 1, "version": "0", "instance": "a" }), vec![]);
    }

    /// The next call, or `None` at the end of the connection.
    pub fn next_call(&mut self) -> Option<Value> {
        loop {
            if let Some(message) = self.reader.next().unwrap() {
                return Some(serde_json::from_slice(&message.bytes).unwrap());
            }
            if matches!(self.reader.fill(&self.socket), Ok(Fill::End) | Err(_)) {
                return None;
            }
        }
    }

    /// Takes a call of `method` and gives its parameters.
    pub fn expect(&mut self, method: &str) -> Value {
        let call = self.next_call().unwrap_or_else(|| panic!("the connection ended before {method}"));
        assert_eq!(call["method"], format!("io.peermem.Broker.{method}"));
        call["parameters"].clone()
    }

    pub fn reply(&mut self, parameters: Value, fds: Vec<OwnedFd>) {
        self.say(&json!({ "parameters": parameters }).to_string(), fds);
    }

    /// Replies with a descriptor that stays open here.
    pub fn lend(&mut self, parameters: Value, fd: &OwnedFd) {
        let bytes = format!("{}\0", json!({ "parameters": parameters }));
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let text = [IoSlice::new(bytes.as_bytes())];
        let sent = sendmsg(&self.socket, &text, &mut control, SendFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    pub fn stream(&mut self, parameters: Value) {
        self.say(&json!({ "parameters": parameters, "continues": true }).to_string(), vec![]);
    }

    pub fn refuse(&mut self, error: &str, parameters: Value) {
        let error = format!("io.peermem.Broker.{error}");
        self.say(&json!({ "error": error, "parameters": parameters }).to_string(), vec![]);
    }

    /// Says `text` as one message; a client that hangs up meanwhile is part of some tests.
    pub fn say(&mut self, text: &str, fds: Vec<OwnedFd>) {
        let mut message = Outgoing::new(text.into(), fds);
        while matches!(message.send(&self.socket), Ok(false)) {}
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = std::io::Write::write_all(&mut &self.socket, bytes);
    }

    /// Closes the connection.
    pub fn hang_up(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

/// A region of emulated memory.
pub fn region(name: &str) -> Value {
    json!({
        "name": name, "generation": 1, "provider": "emulated", "shape": "pool", "size": 65536, "free": 65536,
        "missing": 0, "leases": 0, "alignment": 4096, "method": "pinned", "revocation": "advisory", "emulated": true
    })
}

/// A lease of emulated memory.
pub fn lease(id: u64, length: u64) -> Value {
    json!({
        "id": id, "region": "emulated", "generation": 1, "offset": 0, "length": length,
        "direction": "bidirectional", "method": "pinned",
        "paths": [{ "initiator": "emulated", "route": { "kind": "software" } }],
        "revocation": "advisory", "emulated": true, "owner": { "uid": 0, "gid": 0, "pid": 1 },
        "state": { "kind": "active" }
    })
}

/// What `Map` answers.
pub fn granted(id: u64, length: u64) -> Value {
    json!({ "lease": lease(id, length), "memory_fd": 0, "memory_offset": 0 })
}

/// Host memory that plays the device's.
pub fn memory(length: u64) -> OwnedFd {
    let fd = memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
    File::from(fd.try_clone().unwrap()).set_len(length).unwrap();
    fd
}

/// A call that maps `length` bytes.
pub fn map(length: u64) -> peermem::proto::call::Map {
    use peermem::proto::{ByteLen, Direction, Extent, Initiator, call::Map};
    let extent = Extent::Size(ByteLen::new(length));
    Map::new("emulated".parse().unwrap(), extent, [Initiator::Emulated], Direction::Bidirectional)
}
