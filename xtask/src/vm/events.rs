//! What happens to a guest while xtask waits: the agent's frames, and the console's alarms and end.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use peermem_vm_agent::Frame;

use super::console::Console;
use super::failure::Failure;

/// One thing that happened.
pub(super) enum Event {
    /// The agent's port; what is written to it reaches the agent.
    Connected(UnixStream),
    /// The agent said something.
    Frame(Frame),
    /// The port or the console's log failed.
    Broken(io::Error),
    /// The kernel has stopped, with this line.
    Panicked(String),
    /// QEMU ended.
    Ended,
}

impl Event {
    /// What this means to somebody who waits for something else.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Event::Panicked(line) => Failure::Panicked(line),
            Event::Ended => Failure::Ended,
            Event::Broken(error) => Failure::Agent(error.to_string()),
            Event::Frame(frame) => Failure::Agent(format!("unexpected {frame:?}")),
            Event::Connected(_) => Failure::Agent("it connected twice".into()),
        }
    }
}

/// Starts to watch: the agent's port once QEMU connects it to `listener`, and QEMU's `output`, which
/// is the guest's console and goes to `log`.
pub(super) fn watch(
    listener: UnixListener,
    console: Console,
    output: impl Read + Send + 'static,
    log: File,
) -> Receiver<Event> {
    let (to_events, events) = mpsc::channel();
    let from_port = to_events.clone();
    thread::spawn(move || listen(&listener, &from_port));
    thread::spawn(move || follow_console(&console, output, log, &to_events));
    events
}

fn listen(listener: &UnixListener, events: &Sender<Event>) {
    let frames = || -> io::Result<()> {
        let (mut port, _) = listener.accept()?;
        let send = |event| events.send(event).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
        send(Event::Connected(port.try_clone()?))?;
        loop {
            let frame = Frame::read_from(&mut port)?;
            send(Event::Frame(frame))?;
        }
    };
    match frames() {
        // The port ends with QEMU, of which the console's end tells.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {}
        Err(error) => drop(events.send(Event::Broken(error))),
        Ok(()) => {}
    }
}

fn follow_console(console: &Console, from: impl Read, log: File, events: &Sender<Event>) {
    // The receiver is gone only when nobody waits for the guest any more.
    let on_panic = |line| drop(events.send(Event::Panicked(line)));
    let end = match console.follow(from, log, on_panic) {
        Ok(()) => Event::Ended,
        Err(error) => Event::Broken(error),
    };
    drop(events.send(end));
}
