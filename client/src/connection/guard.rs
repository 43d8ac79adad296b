//! The thread that comes back for what an idle client has.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::unix::net::UnixStream,
    sync::{Arc, Weak},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{blocking::Shared, line::Next, transport::now};

/// Starts it. It ends as soon as the result is dropped, and holds the client only while it comes back.
///
/// # Errors
/// No descriptor or no thread was to be had.
pub(super) fn start(client: Weak<Shared>, socket: Arc<UnixStream>) -> io::Result<PipeWriter> {
    let (end, open) = io::pipe()?;
    thread::Builder::new().name("peermem-resume".to_owned()).spawn(move || run(&client, socket, &end))?;
    Ok(open)
}

/// Sleeps in one system call for as long as the daemon lives: replies don't wake it.
fn run(client: &Weak<Shared>, mut socket: Arc<UnixStream>, end: &PipeReader) {
    let mut pause = None;
    loop {
        let mut fds = [PollFd::new(end, PollFlags::IN), PollFd::new(&socket, PollFlags::RDHUP)];
        let waited = match pause {
            // Until the next attempt, the socket has nothing new to say.
            Some(pause) => poll(fds.split_at_mut(1).0, Timespec::try_from(pause).ok().as_ref()),
            None => poll(&mut fds, None),
        };
        if !matches!(waited, Ok(_) | Err(Errno::INTR)) {
            return;
        }
        let hung_up = pause.is_some() || fds.iter().skip(1).any(|fd| !fd.revents().is_empty());
        let Some(client) = client.upgrade() else { return };
        if hung_up {
            match now(client.lock().look_after(&socket)) {
                Next::Wait(current) => (socket, pause) = (current, None),
                Next::Retry(after) => pause = Some(after),
                Next::Stop => return,
            }
        }
    }
}
