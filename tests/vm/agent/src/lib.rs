//! What xtask and its agent in the guest say to each other.
//!
//! One byte stream (a virtio-serial port) carries frames both ways: kind (1 byte), payload length
//! (4 bytes, little endian), payload. The host asks for one command at a time; the guest answers
//! with the command's output as it comes and, after the last of it, the status.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

/// Name of the virtio-serial port, below `/dev/virtio-ports/` in the guest.
pub const PORT_NAME: &str = "peermem.agent";

/// Longest payload accepted, in bytes.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// One message between the host and the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Guest: the devices are set up, commands may come.
    Ready,
    /// Guest: bytes that the command wrote to its standard output.
    Stdout(Vec<u8>),
    /// Guest: bytes that the command wrote to its standard error.
    Stderr(Vec<u8>),
    /// Guest: the command ended with this status (128 + n when signal n ended it).
    Exit(i32),
    /// Host: run this command; the first item is the program.
    Run(Vec<String>),
    /// Host: end the running command and everything in its process group.
    Kill,
}

impl Frame {
    /// Writes the frame in one piece.
    ///
    /// # Errors
    /// Those of the writer; `InvalidInput` for a payload above [`MAX_PAYLOAD`].
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let joined;
        let status;
        let (kind, payload): (u8, &[u8]) = match self {
            Frame::Ready => (b'R', &[]),
            Frame::Stdout(bytes) => (b'o', bytes),
            Frame::Stderr(bytes) => (b'e', bytes),
            Frame::Exit(code) => {
                status = code.to_le_bytes();
                (b'x', &status)
            }
            Frame::Run(argv) => {
                joined = argv.join("\0").into_bytes();
                (b'r', &joined)
            }
            Frame::Kill => (b'k', &[]),
        };
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_PAYLOAD)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
        let mut frame = Vec::with_capacity(5 + payload.len());
        frame.push(kind);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(payload);
        to.write_all(&frame)
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// Those of the reader, `UnexpectedEof` at the end of the stream, `InvalidData` for a frame of
    /// unknown kind or wrong payload.
    pub fn read_from(from: &mut impl Read) -> io::Result<Frame> {
        let mut header = [0; 5];
        from.read_exact(&mut header)?;
        let [kind, length @ ..] = header;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(invalid("frame too long"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        match kind {
            b'R' => Ok(Frame::Ready),
            b'o' => Ok(Frame::Stdout(payload)),
            b'e' => Ok(Frame::Stderr(payload)),
            b'x' => {
                let status = payload.try_into().map_err(|_| invalid("exit status isn't 4 bytes"))?;
                Ok(Frame::Exit(i32::from_le_bytes(status)))
            }
            b'r' => {
                let joined = String::from_utf8(payload).map_err(|_| invalid("command isn't UTF-8"))?;
                Ok(Frame::Run(joined.split('\0').map(str::to_owned).collect()))
            }
            b'k' => Ok(Frame::Kill),
            _ => Err(invalid("unknown kind of frame")),
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_trip() {
        let frames = [
            Frame::Ready,
            Frame::Stdout(b"a\0b".to_vec()),
            Frame::Stderr(Vec::new()),
            Frame::Exit(-3),
            Frame::Run(vec!["bash".into(), String::new(), "a b".into()]),
            Frame::Kill,
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write_to(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        for frame in &frames {
            assert_eq!(Frame::read_from(&mut wire).unwrap(), *frame);
        }
        assert_eq!(Frame::read_from(&mut wire).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn bad_frames_are_refused() {
        for wire in [&b"?\0\0\0\0"[..], b"o\xff\xff\xff\xff", b"x\x01\0\0\0\0", b"r\x01\0\0\0\xff"] {
            assert_eq!(Frame::read_from(&mut &wire[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let too_long = Frame::Stdout(vec![0; MAX_PAYLOAD + 1]);
        assert!(too_long.write_to(&mut Vec::new()).is_err());
    }
}
