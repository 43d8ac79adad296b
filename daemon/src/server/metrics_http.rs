//! `/metrics` over HTTP/1.1: one request a connection, every size and time bounded.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::Shared;

/// Scrapes answered at once; a Prometheus needs one.
const AT_ONCE: usize = 8;
/// The longest request head, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;
/// How long one scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers scrapes for ever.
///
/// # Panics
/// Outside of a `tokio::task::LocalSet`.
pub async fn serve(shell: Shared, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
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

async fn answer(shell: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
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

async fn respond(stream: &mut TcpStream, status: &str, kind: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}
