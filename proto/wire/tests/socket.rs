//! Messages and descriptors through a real socket pair.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use peermem_wire::{Fill, MAX_FDS, MAX_MESSAGE, Message, Outgoing, Reader, TooLong};
use proptest::prelude::*;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::{FdFlags, fcntl_getfd},
};

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A descriptor that tells which one it is.
fn marked(mark: u8) -> OwnedFd {
    let fd = memfd_create("marked", MemfdFlags::CLOEXEC).unwrap();
    File::from(fd.try_clone().unwrap()).write_all(&[mark]).unwrap();
    fd
}

fn mark(fd: OwnedFd) -> u8 {
    let mut file = File::from(fd);
    file.rewind().unwrap();
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    byte[0]
}

fn send(socket: &UnixStream, json: &[u8], fds: Vec<OwnedFd>) {
    let mut message = Outgoing::new(json.to_vec(), fds);
    while !message.send(socket).unwrap() {}
}

fn receive(reader: &mut Reader, socket: &UnixStream) -> Result<Option<Message>, TooLong> {
    loop {
        if let Some(message) = reader.next()? {
            return Ok(Some(message));
        }
        if reader.fill(socket).unwrap() == Fill::End {
            return Ok(None);
        }
    }
}

#[test]
fn received_descriptors_are_close_on_exec() {
    let (ours, theirs) = pair();
    send(&theirs, b"{}", vec![marked(7)]);
    let message = receive(&mut Reader::new(), &ours).unwrap().unwrap();
    let fds = message.fds.take(1).unwrap();
    assert!(fcntl_getfd(&fds[0]).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(mark(fds.into_iter().next().unwrap()), 7);
}

#[test]
fn a_descriptor_belongs_to_the_message_it_was_sent_with() {
    // All of it waits in the socket before the first read, so that reads may run messages together.
    let (ours, theirs) = pair();
    send(&theirs, b"a", vec![]);
    send(&theirs, b"b", vec![marked(1), marked(2)]);
    send(&theirs, b"c", vec![]);
    send(&theirs, b"d", vec![marked(3)]);
    let mut reader = Reader::new();
    for (text, expected) in [(b"a", &[][..]), (b"b", &[1, 2]), (b"c", &[]), (b"d", &[3])] {
        let message = receive(&mut reader, &ours).unwrap().unwrap();
        assert_eq!(message.bytes, text);
        let marks: Vec<u8> = message.fds.take(expected.len()).unwrap().into_iter().map(mark).collect();
        assert_eq!(marks, expected, "with {}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_long_message_keeps_its_descriptor() {
    let (ours, theirs) = pair();
    let long = vec![b'x'; MAX_MESSAGE];
    let sender = std::thread::spawn(move || {
        send(&theirs, &long, vec![marked(9)]);
        theirs
    });
    let message = receive(&mut Reader::new(), &ours).unwrap().unwrap();
    assert_eq!(message.bytes.len(), MAX_MESSAGE);
    assert_eq!(message.fds.take(1).unwrap().into_iter().map(mark).collect::<Vec<_>>(), [9]);
    drop(sender.join().unwrap());
}

#[test]
fn one_byte_more_is_too_long() {
    let (ours, theirs) = pair();
    let sender = std::thread::spawn(move || {
        let long = vec![b'x'; MAX_MESSAGE + 1];
        send(&theirs, &long, vec![]);
    });
    assert_eq!(receive(&mut Reader::new(), &ours).unwrap_err(), TooLong);
    sender.join().unwrap();
}

#[test]
fn an_endless_message_is_noticed_early() {
    let (ours, theirs) = pair();
    let sender = std::thread::spawn(move || {
        let mut theirs = theirs;
        // The reader hangs up in the middle: the error is the point.
        while theirs.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let mut reader = Reader::new();
    assert_eq!(receive(&mut reader, &ours).unwrap_err(), TooLong);
    drop(ours);
    sender.join().unwrap();
}

#[test]
fn too_many_descriptors_are_counted_and_closed() {
    let (ours, theirs) = pair();
    let (read, write) = rustix::pipe::pipe().unwrap();
    // Two segments of one message, each within what `Outgoing` sends.
    for part in [&b"{"[..], &b"}\0"[..]] {
        let fds: Vec<_> = (0..MAX_FDS).map(|_| write.try_clone().unwrap()).collect();
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&borrowed)));
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&theirs, &[std::io::IoSlice::new(part)], &mut control, flags).unwrap();
    }
    drop(write);
    let message = receive(&mut Reader::new(), &ours).unwrap().unwrap();
    assert_eq!(message.fds.count(), 2 * MAX_FDS);
    assert_eq!(message.fds.take(1).unwrap_err(), 2 * MAX_FDS);
    // Every copy of the writing end is closed, or this would wait for ever.
    assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_wrong_number_of_descriptors_closes_them() {
    let (ours, theirs) = pair();
    let (read, write) = rustix::pipe::pipe().unwrap();
    send(&theirs, b"{}", vec![write]);
    let message = receive(&mut Reader::new(), &ours).unwrap().unwrap();
    assert_eq!(message.fds.take(0).unwrap_err(), 1);
    assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_end_of_the_stream_is_told_apart_from_half_a_message() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"{\"half").unwrap();
    drop(theirs);
    let mut reader = Reader::new();
    assert!(receive(&mut reader, &ours).unwrap().is_none());
    assert!(reader.has_partial());
}

proptest! {
    /// Whatever the sizes of the pieces in which bytes arrive, the messages are the same.
    #[test]
    fn pieces_do_not_matter(
        messages in prop::collection::vec("[a-z]{0,300}", 1..20),
        pieces in prop::collection::vec(1usize..200, 1..50),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|m| m.bytes().chain([0])).collect();
        let (ours, mut theirs) = pair();
        let mut reader = Reader::new();
        let mut got = Vec::new();
        let mut rest = &stream[..];
        for size in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            theirs.write_all(now).unwrap();
            reader.fill(&ours).unwrap();
            while let Some(message) = reader.next().unwrap() {
                got.push(String::from_utf8(message.bytes).unwrap());
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, messages);
        prop_assert!(!reader.has_partial());
    }
}
