//! One client, from its first byte to its last.

use std::{future::poll_fn, io, os::fd::AsFd, rc::Rc, task::Poll, time::Duration};

use peermem_proto::{Event, Refusal, call::WatchReply, varlink::encode_reply};
use peermem_wire::{Fill, Message, Outgoing, Reader, TooLong};
use thiserror::Error;
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Shared,
    dispatch::{Outcome, error_reply, handle, not_a_call},
    peer::Peer,
};

/// Why a connection is over.
#[derive(Debug, Error)]
enum End {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client died")]
    Died,
    #[error("the daemon is stopping")]
    Stopping,
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("the client didn't finish a message, or fetch a reply, within {0:?}")]
    Stalled(Duration),
    #[error("the client sent something while it was watching")]
    TalkedWhileWatching,
    #[error(transparent)]
    Io(#[from] io::Error),
}

struct Session {
    shell: Shared,
    stream: UnixStream,
    reader: Reader,
    peer: Peer,
    stall: Duration,
    stop: watch::Receiver<bool>,
}

/// Serves one client.
pub(super) async fn serve(shell: Shared, stream: UnixStream, stop: watch::Receiver<bool>) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!(%error, "can't tell who has connected"),
    };
    let owner = peer.client.owner;
    let stall = shell.borrow().bounds().stall;
    let admitted = shell.borrow_mut().connect(&peer.client);
    let mut session = Session { shell: Rc::clone(&shell), stream, reader: Reader::new(), peer, stall, stop };
    let end = match admitted {
        Ok(id) => {
            let end = session.run(id).await;
            // What a client has outlives the daemon: it comes back for it.
            if !matches!(end, End::Stopping) {
                shell.borrow_mut().disconnect(id, owner.uid);
            }
            end
        }
        Err(_) if !shell.borrow_mut().begin_turning_away() => End::Closed,
        Err(refusal) => {
            let end = session.turn_away(refusal).await;
            shell.borrow_mut().end_turning_away();
            end
        }
    };
    match end {
        End::Closed | End::Died | End::Stopping => tracing::debug!(uid = owner.uid, pid = owner.pid, "{end}"),
        _ => tracing::warn!(uid = owner.uid, pid = owner.pid, "connection closed: {end}"),
    }
}

impl Session {
    async fn run(&mut self, id: crate::core::SessionId) -> End {
        loop {
            if let Err(end) = self.answer_one(id).await {
                return end;
            }
            behind_the_others().await;
            // A client that always has something to say would keep it from being heard.
            if *self.stop.borrow() {
                return End::Stopping;
            }
        }
    }

    async fn answer_one(&mut self, id: crate::core::SessionId) -> Result<(), End> {
        let message = match self.receive().await {
            Err(End::TooLong(too_long)) => {
                self.send(error_reply(&not_a_call(&too_long.to_string()))).await?;
                return Err(too_long.into());
            }
            received => received?,
        };
        let owner = self.peer.client.owner;
        let turn = self.shell.borrow_mut().turn_of(owner.uid);
        if let Some(wait) = turn {
            self.unless_dead(sleep(wait)).await?;
        }
        match self.unless_dead(handle(&self.shell, id, owner, message)).await? {
            Outcome::Reply(reply) => self.send(reply).await,
            Outcome::Silence => Ok(()),
            Outcome::Stream(events) => {
                let end = self.stream(events).await;
                self.shell.borrow_mut().unwatch(owner.uid);
                end
            }
        }
    }

    /// Does `what`, but nothing for a process that is known to be dead.
    async fn unless_dead<T>(&self, what: impl Future<Output = T>) -> Result<T, End> {
        tokio::select! {
            biased;
            () = self.peer.died() => Err(End::Died),
            done = what => Ok(done),
        }
    }

    /// Tells a client that isn't admitted why, in answer to its first call.
    async fn turn_away(&mut self, refusal: Refusal) -> End {
        let told = async {
            timeout(self.stall, self.receive()).await.map_err(|_| End::Stalled(self.stall))??;
            self.send(error_reply(&refusal.into())).await
        };
        told.await.err().unwrap_or(End::Closed)
    }

    /// The next message. A client may wait before the first byte for ever, and before the last for `stall`.
    async fn receive(&mut self) -> Result<Message, End> {
        let mut deadline = None;
        loop {
            if let Some(message) = self.reader.next()? {
                return Ok(message);
            }
            if !self.reader.has_partial() {
                self.fill().await?;
                continue;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.stall);
            timeout_at(deadline, self.fill()).await.map_err(|_| End::Stalled(self.stall))??;
        }
    }

    async fn fill(&mut self) -> Result<(), End> {
        let Self { stream, reader, peer, stop, .. } = self;
        let fill = async {
            loop {
                stream.readable().await?;
                match stream.try_io(Interest::READABLE, || reader.fill(stream.as_fd())) {
                    Ok(Fill::Data) => return Ok(()),
                    Ok(Fill::End) => return Err(End::Closed),
                    Err(error) if is_transient(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        };
        // What is there is read before anything else is looked at.
        tokio::select! {
            biased;
            filled = fill => filled,
            () = peer.died() => Err(End::Died),
            _ = stop.wait_for(|stop| *stop) => Err(End::Stopping),
        }
    }

    async fn send(&self, mut message: Outgoing) -> Result<(), End> {
        // The socket nearly always has room.
        if self.try_send(&mut message)? {
            return Ok(());
        }
        let send = async {
            loop {
                self.stream.writable().await?;
                if self.try_send(&mut message)? {
                    return Ok(());
                }
            }
        };
        tokio::select! {
            biased;
            sent = timeout(self.stall, send) => sent.unwrap_or(Err(End::Stalled(self.stall))),
            () = self.peer.died() => Err(End::Died),
        }
    }

    /// Sends as much as there is room for; whether that was all.
    fn try_send(&self, message: &mut Outgoing) -> Result<bool, End> {
        let stream = &self.stream;
        loop {
            match stream.try_io(Interest::WRITABLE, || message.send(stream.as_fd())) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_hangup(&error) => return Err(End::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Streams events until the client hangs up, or has fallen too far behind.
    async fn stream(&mut self, mut events: Receiver<Rc<Event>>) -> Result<(), End> {
        self.send_event(None).await?;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.send_event(Some(Event::clone(&event))).await?,
                    Err(RecvError::Lagged(lost)) => {
                        self.shell.borrow().metrics.watcher_dropped();
                        return self.send(error_reply(&Refusal::WatcherTooSlow { lost }.into())).await;
                    }
                    Err(RecvError::Closed) => return Err(End::Stopping),
                },
                filled = self.fill() => return Err(filled.err().unwrap_or(End::TalkedWhileWatching)),
            }
        }
    }

    async fn send_event(&self, event: Option<Event>) -> Result<(), End> {
        let bytes = encode_reply(&WatchReply { event }, true).map_err(io::Error::from)?;
        self.send(Outgoing::new(bytes, Vec::new())).await
    }
}

/// Lets the clients go first whose calls are here already, so that one that asks again at once can't keep them waiting.
/// `tokio::task::yield_now` would also look for those that come, which costs a system call after every reply.
async fn behind_the_others() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn is_hangup(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
