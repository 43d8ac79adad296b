//! How the two ends find each other.

use std::{
    io::{self, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{cli::End, failure::Usage};

/// How long the connecting end waits for the other to listen.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

/// One end, before it has met the other.
pub(super) enum Meeting {
    Listening(TcpListener),
    Calling(String),
}

impl Meeting {
    /// Listens early: preparing the RDMA side takes time, and the other end may come meanwhile.
    pub(super) fn prepare(end: &End) -> Result<Self> {
        match (&end.listen, &end.connect) {
            (Some(address), None) => {
                let listener =
                    TcpListener::bind(address).with_context(|| format!("can't listen at {address}"))?;
                // Port 0 becomes a number that the other end has to be told. Not a result, hence standard error.
                let _ = writeln!(
                    io::stderr(),
                    "peermemctl: waiting for the other end at {}",
                    listener.local_addr()?
                );
                Ok(Self::Listening(listener))
            }
            (None, Some(address)) => Ok(Self::Calling(address.clone())),
            _ => Err(Usage("give either --listen or --connect".to_owned()).into()),
        }
    }

    /// Waits for the other end; the listening one for as long as it takes.
    pub(super) fn meet(self) -> Result<TcpStream> {
        let stream = match self {
            Self::Listening(listener) => listener.accept()?.0,
            Self::Calling(address) => return call(&address),
        };
        // Small messages go back and forth.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Connects to the end that listens at `address`, and waits for it if it doesn't yet.
pub(in crate::commands) fn call(address: &str) -> Result<TcpStream> {
    let stream = try_for_a_while(address).with_context(|| format!("can't connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn try_for_a_while(address: &str) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                thread::sleep(RETRY);
            }
            done => return done,
        }
    }
}
