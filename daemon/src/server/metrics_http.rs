//! `/metrics` over HTTP/1.1: one request a connection, every size and time bounded.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};

use super::Shared;

/// Scrapes answered at once; a Prometheus needs one.
const AT_ONCE: usize = 8;
/// The longest request head, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;
/// How long one scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What scrapers connect to.
pub trait Door {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Answers scrapes for ever.
///
/// # Panics
/// Outside of a `tokio::task::LocalSet`.
pub async fn serve(shell: Shared, door: impl Door) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match door.next().await {
            Ok(stream) => {
                let shell = Rc::clone(&shell);
                tokio::task::spawn_local(async move {
                    let answered = tokio::time::timeout(PATIENCE, answer(&shell, stream)).await;
                    tracing::debug!(?answered, "scrape");
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a scrape");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(shell: &Shared, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > LONGEST_HEAD {
            return respond(&mut stream, "431 Request Header Fields Too Large", "text/plain", b"").await;
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let path = words.nth(1).unwrap_or_default().split(|byte| *byte == b'?').next().unwrap_or_default();
    match (line.starts_with(b"GET "), path) {
        (true, b"/metrics") => {
            let text = shell.borrow().metrics().render();
            respond(&mut stream, "200 OK", "text/plain; version=0.0.4; charset=utf-8", text.as_bytes()).await
        }
        (true, _) => respond(&mut stream, "404 Not Found", "text/plain", b"peermemd serves /metrics\n").await,
        (false, _) => respond(&mut stream, "405 Method Not Allowed", "text/plain", b"only GET\n").await,
    }
}

async fn respond(
    stream: &mut (impl AsyncWrite + Unpin),
    status: &str,
    kind: &str,
    body: &[u8],
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}
