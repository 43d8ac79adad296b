//! Where a client stands with the daemon, and how it comes back after a restart: the part that both clients share.
//!
//! ```text
//!            a call, or the watcher, finds the socket hung up
//!     up ─────────────────────────────────────────────────────► away
//!     │  ◄──────────────────────────────────────────────────────  │
//!     │       connect, Hello, Resume: nothing else comes first    │
//!     │                                                           │
//!     │ hung up with a reply in doubt      another protocol came  │
//!     └───────────────────────────► over ◄────────────────────────┘
//! ```

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use peermem_proto::{
    ByteLen, Lease,
    call::{Call, Claim, MapReply, Unmap},
};

use super::{
    CallFailed, ConnectError, ConnectionError, DEFAULT_TIMEOUT, Trouble,
    holdings::{Holdings, Kept},
    request::Request,
    transport::{Brought, Transport},
};

/// A call is made again after a restart, and not for ever: the daemon may have died of it.
const MOST_TRIES: u32 = 3;

/// How long after an attempt to connect the next one follows: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The connection, whether it is there or not. Who has it has it alone.
#[derive(Debug)]
pub(super) struct Line<T> {
    socket: PathBuf,
    state: State<T>,
    pub(super) holdings: Arc<Holdings>,
    /// How long a call may take.
    pub(super) timeout: Duration,
    /// How long calls wait for a daemon that went away.
    pub(super) patience: Duration,
}

#[derive(Debug)]
enum State<T> {
    Up(T),
    Away(Away),
    Over { because: String },
}

/// The daemon has gone.
#[derive(Debug, Clone, Copy)]
struct Away {
    since: Instant,
    attempts: u32,
}

/// A lease that has just been granted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) lease: Lease,
    pub(crate) memory: OwnedFd,
    pub(crate) offset: ByteLen,
    pub(crate) device: Option<OwnedFd>,
    pub(crate) kept: Kept,
}

/// What the watcher does next.
#[derive(Debug)]
pub(super) enum Next<S> {
    /// Wait until this socket hangs up.
    Wait(Arc<S>),
    /// Try again after that long.
    Retry(Duration),
    /// Nothing more.
    Stop,
}

impl<T: Transport> Line<T> {
    /// Connects for the first time, without patience.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn open(socket: PathBuf) -> Result<Self, ConnectError> {
        let (transport, instance) = T::open(&socket, DEFAULT_TIMEOUT).await?;
        Ok(Self {
            socket,
            state: State::Up(transport),
            holdings: Arc::new(Holdings::new(instance)),
            timeout: DEFAULT_TIMEOUT,
            patience: DEFAULT_TIMEOUT,
        })
    }

    pub(super) fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Makes a call, and makes it again where the daemon went away meanwhile.
    pub(super) async fn request<C: Call<Reply: Send> + Sync>(
        &mut self,
        request: &Request<'_, C>,
    ) -> Result<Brought<C>, CallFailed> {
        for left in (0..MOST_TRIES).rev() {
            let timeout = self.timeout;
            let transport = self.up(C::METHOD).await?;
            request.check()?;
            let called = transport.call(request.call, request.fds()?, request.brings, timeout).await;
            match called {
                Err(CallFailed::Lost(lost)) if lost.trouble.is_hangup() => {
                    let may_be_done = transport.exchange().was_heard();
                    self.hang_up();
                    if left == 0 || may_be_done && !request.repeatable {
                        return Err(lost.into());
                    }
                }
                Err(CallFailed::Answered(answer)) => {
                    request.learn(&answer);
                    return Err(answer.into());
                }
                done => return done,
            }
        }
        unreachable!("the last try returns")
    }

    /// Makes a call that grants a lease, and brings so many descriptors.
    pub(super) async fn grant<C: Call<Reply = MapReply> + Sync>(
        &mut self,
        call: &C,
        brings: usize,
    ) -> Result<Granted, CallFailed> {
        let (MapReply { lease, memory_fd, memory_offset, device_fd }, fds) =
            self.request(&Request::new(call).bringing(brings)).await?;
        let kept = self.holdings.keep_lease(&lease, C::METHOD == Claim::METHOD);
        let Some(fds) = fds else {
            self.last_words(&Unmap { lease: lease.id }, &kept).await;
            return Err(CallFailed::NoFreeDescriptor { method: C::METHOD });
        };
        let got = fds.len();
        let mut fds: Vec<_> = fds.into_iter().map(Some).collect();
        let mut take = |index: u32| {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            fds.get_mut(index).and_then(Option::take).ok_or(Trouble::DescriptorIndex { index, got })
        };
        let taken = take(memory_fd).and_then(|memory| Ok((memory, device_fd.map(take).transpose()?)));
        match taken {
            Ok((memory, device)) => Ok(Granted { lease, memory, offset: memory_offset, device, kept }),
            Err(trouble) => Err(self.lose(C::METHOD, trouble).into()),
        }
    }

    /// Makes a call about something that is given up, if the connection is there; else the daemon ends it when it isn't
    /// resumed.
    pub(super) async fn last_words<C: Call<Reply: Send> + Sync>(&mut self, call: &C, kept: &Kept) {
        let State::Up(transport) = &mut self.state else { return };
        if kept.is_lost() {
            return;
        }
        if let Err(CallFailed::Lost(lost)) = transport.call(call, Vec::new(), 0, self.timeout).await
            && lost.trouble.is_hangup()
        {
            self.hang_up();
        }
    }

    /// Gives the connection up.
    pub(super) fn lose(&mut self, method: &'static str, trouble: Trouble) -> ConnectionError {
        match &mut self.state {
            State::Up(transport) => transport.exchange().lose(trouble),
            State::Away(_) | State::Over { .. } => self.error(method, trouble),
        }
    }

    /// The socket, if the connection is there.
    pub(super) fn connected(&self) -> Option<Arc<T::Socket>> {
        match &self.state {
            State::Up(transport) => Some(Arc::clone(transport.socket())),
            State::Away(_) | State::Over { .. } => None,
        }
    }

    /// What the watcher does when the socket that it has seen hangs up, and when its pause is over: at most one attempt to
    /// come back.
    pub(super) async fn look_after(&mut self, seen: &Arc<T::Socket>) -> Next<T::Socket> {
        if let State::Up(transport) = &mut self.state
            && Arc::ptr_eq(transport.socket(), seen)
        {
            match transport.exchange().doubt() {
                Some(because) => self.end(because),
                None => self.hang_up(),
            }
        }
        if let State::Away(_) = self.state {
            // The next call tells why, if it still fails then.
            let _ = self.come_back().await;
        }
        match &self.state {
            State::Up(transport) => Next::Wait(Arc::clone(transport.socket())),
            State::Away(away) => Next::Retry(away.pause()),
            State::Over { .. } => Next::Stop,
        }
    }

    /// The connection, after coming back if the daemon had gone.
    async fn up(&mut self, method: &'static str) -> Result<&mut T, ConnectionError> {
        while let State::Away(Away { since, .. }) = self.state {
            if let (Err(source), State::Away(away)) = (self.come_back().await, &self.state) {
                let after = since.elapsed();
                let left = self.patience.saturating_sub(after);
                if left.is_zero() {
                    return Err(self.error(method, Trouble::NotBack { after, source: Box::new(source) }));
                }
                T::sleep(away.pause().min(left)).await;
            }
        }
        match &mut self.state {
            State::Up(transport) => Ok(transport),
            State::Away(_) => unreachable!("it was waited for"),
            State::Over { because } => {
                let trouble = Trouble::GivenUp { because: because.clone() };
                Err(ConnectionError { socket: self.socket.clone(), method, trouble })
            }
        }
    }

    /// One attempt to connect and to resume what is held.
    async fn come_back(&mut self) -> Result<(), ConnectError> {
        let State::Away(away) = self.state else { return Ok(()) };
        let opened = T::open(&self.socket, self.timeout).await;
        let again = State::Away(Away { attempts: away.attempts.saturating_add(1), ..away });
        match opened {
            Ok((transport, instance)) => self.resume(transport, instance, again).await,
            Err(error @ ConnectError::WrongVersion { .. }) => {
                self.end(error.to_string());
                Err(error)
            }
            Err(error) => {
                self.state = again;
                Err(error)
            }
        }
    }

    /// Takes the new connection, and has what is held hang on it; `again` is the state where the daemon has gone anew.
    ///
    /// The daemon would end what it has resumed if this connection were dropped. So it is kept whatever becomes of this
    /// future: dropped half-way, it leaves a connection in doubt, as every call does.
    async fn resume(&mut self, transport: T, instance: String, again: State<T>) -> Result<(), ConnectError> {
        self.holdings.move_to(instance);
        self.state = State::Up(transport);
        for call in self.holdings.resumptions() {
            let State::Up(transport) = &mut self.state else { break };
            match transport.call(&call, Vec::new(), 0, self.timeout).await {
                Ok((reply, _)) => self.holdings.lose(reply),
                Err(source) => {
                    let in_doubt = matches!(&source, CallFailed::Lost(lost) if !lost.trouble.is_hangup());
                    if !in_doubt {
                        self.state = again;
                    }
                    return Err(ConnectError::Greeting { path: self.socket.clone(), source });
                }
            }
        }
        Ok(())
    }

    /// The daemon has gone.
    fn hang_up(&mut self) {
        self.state = State::Away(Away { since: Instant::now(), attempts: 0 });
    }

    /// There will be no connection again, and nothing to hold.
    fn end(&mut self, because: String) {
        self.holdings.lose_all();
        self.state = State::Over { because };
    }

    fn error(&self, method: &'static str, trouble: Trouble) -> ConnectionError {
        ConnectionError { socket: self.socket.clone(), method, trouble }
    }
}

impl Away {
    /// Twice as long after each attempt.
    fn pause(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_PAUSE)
    }
}
