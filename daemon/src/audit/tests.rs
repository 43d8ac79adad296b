//! Records arrive, at a stand-in for journald, or in the log.

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
    mem::MaybeUninit,
    os::unix::net::UnixDatagram,
    time::Instant,
};

use peermem_proto::{LeaseId, Owner};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{socket::PATIENCE, *};

fn grant(message: &str) -> Record<'static> {
    let owner = Owner { uid: 1000, gid: 1000, pid: 7 };
    Record {
        region: Some("cmb-a"),
        initiator: Some("rdma:rxe0".to_owned()),
        lease: Some(LeaseId::FIRST),
        ..Record::new(Kind::Grant, owner, message.to_owned())
    }
}

/// As journald reads an entry.
fn decode(mut entry: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
        let (name, rest) = (&entry[..end], &entry[end + 1..]);
        let (length, rest) = rest.split_first_chunk().unwrap();
        let (value, rest) = rest.split_at(u64::from_le_bytes(*length).try_into().unwrap());
        let [name, value] = [name, value].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        assert!(fields.insert(name, value).is_none());
        entry = rest.strip_prefix(b"\n").unwrap();
    }
    assert!(entry.is_empty(), "{entry:?}");
    fields
}

/// One datagram: its bytes, or those of the memfd that came instead.
fn receive(journal: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let buffer = &mut [io::IoSliceMut::new(&mut bytes)];
    let received = recvmsg(journal, buffer, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    if let Some(memfd) = fds.flatten().next() {
        assert_eq!(received.bytes, 0);
        let mut file = std::fs::File::from(memfd);
        assert!(file.set_len(1).is_err(), "it isn't sealed");
        bytes.clear();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        return bytes;
    }
    bytes[..received.bytes].to_vec()
}

struct Journal {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Journal {
    fn listen() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        Self { folder, socket }
    }

    fn audit(&self) -> Audit {
        let namespace = "peermem".parse().unwrap();
        let audit = Audit(Stream::open(&namespace, self.folder.path().join("socket")));
        assert_eq!(receive(&self.socket), b"", "the journal is tried");
        audit
    }
}

#[test]
fn a_record_arrives_whole_whatever_is_in_it() {
    let journal = Journal::listen();
    let mut audit = journal.audit();
    let message = "two lines\nPEERMEM_UID=0\nand a = sign";
    assert_eq!(audit.write(&grant(message)), Written::Namespace);
    let expected = [
        ("MESSAGE", message),
        ("PRIORITY", "5"),
        ("SYSLOG_IDENTIFIER", "peermemd"),
        ("PEERMEM_AUDIT", "grant"),
        ("PEERMEM_UID", "1000"),
        ("PEERMEM_PID", "7"),
        ("PEERMEM_REGION", "cmb-a"),
        ("PEERMEM_INITIATOR", "rdma:rxe0"),
        ("PEERMEM_LEASE", &LeaseId::FIRST.to_string()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(decode(&receive(&journal.socket)), BTreeMap::from(expected));
}

#[test]
fn a_record_that_no_datagram_holds_goes_in_a_memfd() {
    let journal = Journal::listen();
    let mut audit = journal.audit();
    let message = "0123456789".repeat(100_000);
    assert_eq!(audit.write(&grant(&message)), Written::Namespace);
    assert_eq!(decode(&receive(&journal.socket))["MESSAGE"], message);
}

#[test]
fn without_a_namespace_the_log_has_it() {
    assert_eq!(Audit::default().write(&grant("granted")), Written::Log);
}

#[test]
fn a_journal_that_goes_is_found_again_when_it_is_back() {
    let mut journal = Journal::listen();
    let mut audit = journal.audit();
    let path = journal.folder.path().join("socket");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(audit.write(&grant("one")), Written::Diverted);
    assert_eq!(audit.write(&grant("two")), Written::Diverted);
    journal.socket = UnixDatagram::bind(&path).unwrap();
    assert_eq!(audit.write(&grant("three")), Written::Namespace);
    assert_eq!(decode(&receive(&journal.socket))["MESSAGE"], "three");
}

#[test]
fn a_journal_that_reads_nothing_costs_its_patience_once() {
    let journal = Journal::listen();
    let mut audit = journal.audit();
    let (mut went, mut waits) = (Vec::new(), 0);
    // More than the kernel queues for it (net.unix.max_dgram_qlen, and the socket's buffer).
    while went.len() < 4000 {
        let began = Instant::now();
        went.push(audit.write(&grant("granted")));
        waits += u32::from(began.elapsed() >= PATIENCE);
    }
    assert!(went.contains(&Written::Namespace) && went.last() == Some(&Written::Diverted));
    // One, and what a busy machine adds; not one of hundreds that are diverted.
    assert!(waits < 8, "{waits} records were waited for");
    receive(&journal.socket);
    assert_eq!(audit.write(&grant("granted")), Written::Namespace, "room again");
}

#[test]
fn names_that_are_paths_or_patterns_are_none() {
    for name in ["peermem", "a.b", "x-1:y_2"] {
        assert_eq!(name.parse::<Namespace>().unwrap().to_string(), name);
    }
    for name in ["", ".", "..", ".a", "a/b", "a*", "a b", "é", &"x".repeat(65)] {
        assert!(name.parse::<Namespace>().is_err(), "{name}");
    }
}
