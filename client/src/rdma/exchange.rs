//! Small JSON messages over a stream: a length of four bytes, big-endian, then the text. Every length is bounded and
//! every wait has a deadline, since the other side may be anybody.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The longest message, in bytes: ten times what an address or a region needs.
pub const MAX_MESSAGE: usize = 4096;

/// Why a message wasn't exchanged.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The deadline passed.
    #[error("the peer didn't answer before the deadline")]
    TimedOut,
    /// The peer hung up.
    #[error("the peer closed the connection")]
    Closed,
    /// A length that no message has: the peer speaks something else.
    #[error("the peer announced a message of {0} bytes; at most {MAX_MESSAGE} are taken")]
    TooLong(usize),
    /// Not the expected message.
    #[error("the peer sent something unexpected")]
    Unexpected(#[source] serde_json::Error),
    /// The stream failed.
    #[error("the connection to the peer failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Sends one message.
///
/// # Errors
///
/// [`ExchangeError`].
pub fn send<T: Serialize>(stream: &TcpStream, message: &T, deadline: Instant) -> Result<(), ExchangeError> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    let mut stream = stream;
    Ok(stream.write_all(&encode(message)?)?)
}

/// Receives one message.
///
/// # Errors
///
/// [`ExchangeError`].
pub fn receive<T: DeserializeOwned>(stream: &TcpStream, deadline: Instant) -> Result<T, ExchangeError> {
    let mut length = [0; 4];
    read_exact(stream, &mut length, deadline)?;
    let mut body = vec![0; body_len(length)?];
    read_exact(stream, &mut body, deadline)?;
    serde_json::from_slice(&body).map_err(ExchangeError::Unexpected)
}

/// A peer that sends a byte now and then doesn't move the deadline.
fn read_exact(mut stream: &TcpStream, mut buffer: &mut [u8], deadline: Instant) -> Result<(), ExchangeError> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(ExchangeError::Closed),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> Result<Duration, ExchangeError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ExchangeError::TimedOut) } else { Ok(left) }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ExchangeError> {
    let body = serde_json::to_vec(message).map_err(ExchangeError::Unexpected)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE);
    let length = length.ok_or(ExchangeError::TooLong(body.len()))?;
    Ok([&length.to_be_bytes()[..], &body].concat())
}

fn body_len(length: [u8; 4]) -> Result<usize, ExchangeError> {
    let length = u32::from_be_bytes(length) as usize;
    if length <= MAX_MESSAGE { Ok(length) } else { Err(ExchangeError::TooLong(length)) }
}

/// Sends one message without blocking a thread.
///
/// # Errors
///
/// [`ExchangeError`].
#[cfg(feature = "async")]
pub async fn send_async<T: Serialize>(
    stream: &mut tokio::net::TcpStream,
    message: &T,
    deadline: Instant,
) -> Result<(), ExchangeError> {
    use tokio::io::AsyncWriteExt as _;
    let bytes = encode(message)?;
    before(deadline, async { Ok(stream.write_all(&bytes).await?) }).await
}

/// Receives one message without blocking a thread.
///
/// # Errors
///
/// [`ExchangeError`].
#[cfg(feature = "async")]
pub async fn receive_async<T: DeserializeOwned>(
    stream: &mut tokio::net::TcpStream,
    deadline: Instant,
) -> Result<T, ExchangeError> {
    use tokio::io::AsyncReadExt as _;
    let body = before(deadline, async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let mut body = vec![0; body_len(length)?];
        stream.read_exact(&mut body).await?;
        Ok(body)
    });
    serde_json::from_slice(&body.await?).map_err(ExchangeError::Unexpected)
}

#[cfg(feature = "async")]
async fn before<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(ExchangeError::TimedOut))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// A deadline for what happens.
    fn late() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A deadline for what doesn't.
    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[test]
    fn a_message_arrives() {
        let (a, b) = pair();
        send(&a, &("text", 7), late()).unwrap();
        assert_eq!(receive::<(String, u32)>(&b, late()).unwrap(), ("text".into(), 7));
    }

    #[test]
    fn a_silent_peer_costs_no_more_than_the_deadline() {
        let (_a, b) = pair();
        assert!(matches!(receive::<u32>(&b, soon()), Err(ExchangeError::TimedOut)));
    }

    #[test]
    fn a_trickling_peer_does_not_move_the_deadline() {
        let (mut a, b) = pair();
        let writer = std::thread::spawn(move || {
            // A length, and much less of the message.
            a.write_all(&[0, 0, 16, 0]).unwrap();
            while a.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(60));
            }
        });
        assert!(matches!(receive::<u32>(&b, soon()), Err(ExchangeError::TimedOut)));
        drop(b);
        writer.join().unwrap();
    }

    #[test]
    fn a_length_beyond_the_bound_is_not_allocated() {
        let (mut a, b) = pair();
        a.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(matches!(receive::<u32>(&b, late()), Err(ExchangeError::TooLong(_))));
    }

    #[test]
    fn a_peer_that_hangs_up_is_told_from_a_silent_one() {
        let (a, b) = pair();
        drop(a);
        assert!(matches!(receive::<u32>(&b, late()), Err(ExchangeError::Closed)));
    }
}
