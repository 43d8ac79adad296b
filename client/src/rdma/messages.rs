//! Two-sided messages: sends into receives that the peer has posted ahead.
//!
//! ```text
//! send ── message, and how many receives this side has posted anew ──►  one of the peer's receives
//!                                                                       take, give_back: posted again
//!  credits += n  ◄── with the next message, or alone once half of them are back ──
//! ```
//!
//! **Invariant:** nothing is sent for which the peer isn't known to have a receive. So no message is refused for want of
//! one and repeated after a timeout, which costs a connection its bandwidth, and at last itself.

use std::{collections::VecDeque, net::TcpStream, time::Instant};

use peermem_proto::{ByteLen, Method};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    batches::{Batches, Waiting, receive_id},
    endpoint::Endpoint,
    exchange::{self, ExchangeError},
    loopback::Verb,
    quirks::Unusable,
    transfer::TransferError,
};
use crate::verbs::{DeviceError, Done, MrSlice, OdpTransport, Work};

/// With fewer receives, telling the peer of them would take more of them than it gives.
const FEWEST: usize = 4;

/// In the immediate data: a message that only tells of receives. The other bits say of how many.
const ALONE: u32 = 1 << 31;

/// Why two endpoints can't send each other messages.
#[derive(Debug, Error)]
pub enum MessagesError {
    /// Too few receives to begin with, or more than the endpoint was made for.
    #[error(
        "{given} receives were given; from {FEWEST} to {most}, which the endpoint was made for, make sense"
    )]
    Receives {
        /// How many.
        given: usize,
        /// [`EndpointConfig::receives`](super::EndpointConfig::receives), as far as the device has room for them.
        most: u32,
    },
    /// The peers couldn't talk over TCP.
    #[error("receives can't be told of")]
    Exchange(#[from] ExchangeError),
    /// The device doesn't say what it can do.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A receive wasn't posted.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// What each side tells the other of its receives first.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receives {
    count: u32,
    /// Of the shortest, in bytes.
    length: ByteLen,
}

/// A message that has arrived. Its receive is this side's until it is [given back](Messages::give_back).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the receive is lost unless it is given back"]
pub struct Message {
    receive: u32,
    length: ByteLen,
}

impl Message {
    /// Which of the receives it is in, in the order in which they were given to [`Messages::new`].
    pub fn receive(&self) -> usize {
        self.receive as usize
    }

    /// How many bytes of that it has.
    pub fn length(&self) -> ByteLen {
        self.length
    }
}

/// An endpoint whose peer sends messages, and is sent some. Each arrives whole, once and in order.
///
/// Dropped, it ends the connection.
#[derive(Debug)]
pub struct Messages {
    endpoint: Endpoint,
    batches: Batches,
    receives: Vec<MrSlice>,
    /// What the device claims to do with on-demand regions.
    on_demand: OdpTransport,
    theirs: Receives,
    /// Receives of the peer's that nothing is on its way to.
    credits: u32,
    /// Receives posted here that the peer hasn't been told of.
    owed: u32,
    arrived: VecDeque<Message>,
    /// How many were started, and how many of those are finished.
    started: u64,
    finished: u64,
    /// Which of those under way only tell of receives.
    alone: VecDeque<u64>,
}

impl Messages {
    /// Posts `receives`, and exchanges how many there are with the endpoint at the other end of `stream`, which does the
    /// same. Each takes one message; they may be of the same memory, where it doesn't matter what overwrites what.
    ///
    /// # Errors
    ///
    /// [`MessagesError`].
    pub fn new(
        endpoint: Endpoint,
        receives: Vec<MrSlice>,
        stream: &TcpStream,
        deadline: Instant,
    ) -> Result<Self, MessagesError> {
        let (given, most) = (receives.len(), endpoint.receives);
        let count = u32::try_from(given).ok().filter(|&count| given >= FEWEST && count <= most);
        let count = count.ok_or(MessagesError::Receives { given, most })?;
        let on_demand = match receives.first() {
            Some(receive) => receive.region().protection_domain().context().attributes()?.odp.rc,
            None => OdpTransport::default(),
        };
        let length = receives.iter().map(MrSlice::len).min().unwrap_or(ByteLen::ZERO);
        let mut messages = Self {
            batches: Batches::new(&endpoint),
            endpoint,
            receives,
            on_demand,
            theirs: Receives { count: 0, length: ByteLen::ZERO },
            credits: 0,
            owed: 0,
            arrived: VecDeque::new(),
            started: 0,
            finished: 0,
            alone: VecDeque::new(),
        };
        for receive in &messages.receives {
            messages.check(receive, messages.on_demand.receive(), "receives")?;
        }
        (0..count).try_for_each(|receive| messages.post(receive))?;
        exchange::send(stream, &Receives { count, length }, deadline)?;
        messages.theirs = exchange::receive(stream, deadline)?;
        messages.credits = messages.theirs.count;
        Ok(messages)
    }

    /// How many messages may be under way at a time.
    pub fn depth(&self) -> u32 {
        // One receive is left for a message that only tells of receives, so that both sides never wait for each other.
        self.endpoint.depth.min(self.theirs.count.saturating_sub(1))
    }

    /// Whether another message may be sent: there is room for it here, and a receive for it there.
    pub fn has_room(&self) -> bool {
        self.credits > 1 && self.batches.len() < self.endpoint.depth
    }

    /// Starts one message. It may wait for others to be handed over with; [`Messages::wait`] leaves none behind.
    ///
    /// # Errors
    ///
    /// [`TransferError`]. [`TransferError::Full`], [`TransferError::TooLong`] and those of the checks leave everything as it
    /// was.
    pub fn send(&mut self, local: MrSlice) -> Result<(), TransferError> {
        self.check(&local, self.on_demand.send(), "sends")?;
        let (len, most) = (local.len(), self.theirs.length);
        if len > most {
            return Err(TransferError::TooLong { len, most });
        }
        if !self.has_room() {
            return Err(TransferError::Full { depth: self.depth() });
        }
        self.start(local, 0)
    }

    /// Hands over what waits for others to be handed over with.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn flush(&mut self) -> Result<(), TransferError> {
        self.batches.hand_over(&mut self.endpoint)
    }

    /// Waits until a message has gone or one has come; returns how many have gone.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn wait(&mut self, waiting: Waiting, deadline: Instant) -> Result<u32, TransferError> {
        self.tell()?;
        self.flush()?;
        self.batches.wait(&self.endpoint, waiting, deadline)?;
        let mut told = Vec::new();
        let (arrived, credits) = (&mut self.arrived, &mut self.credits);
        let finished = self.batches.land(
            &mut self.endpoint,
            Verb::Send,
            |receive, Done { byte_len, immediate, .. }| {
                let immediate = immediate.unwrap_or_default();
                *credits = credits.saturating_add(immediate & !ALONE).min(self.theirs.count);
                if immediate & ALONE == 0 {
                    arrived.push_back(Message { receive, length: ByteLen::new(u64::from(byte_len)) });
                } else {
                    told.push(receive);
                }
            },
        )?;
        told.into_iter().try_for_each(|receive| self.post_again(receive))?;
        Ok(self.count(finished))
    }

    /// The next message that has come, if there is one: look before you [wait](Self::wait).
    pub fn take(&mut self) -> Option<Message> {
        self.arrived.pop_front()
    }

    /// Posts a message's receive again: whatever comes next may overwrite it.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn give_back(&mut self, message: Message) -> Result<(), TransferError> {
        self.post_again(message.receive)
    }

    fn check(&self, local: &MrSlice, is_claimed: bool, what: &'static str) -> Result<(), TransferError> {
        let method = local.region().method();
        if method == Method::OnDemand && !is_claimed {
            return Err(Unusable::NoOnDemandMessages { what }.into());
        }
        if let Some(ours) = self.endpoint.constraint(method)? {
            ours.check("the local", local.iova(), self.endpoint.mtu)?;
        }
        Ok(())
    }

    fn post(&self, receive: u32) -> Result<(), TransferError> {
        let qp = self.endpoint.qp.as_ref().ok_or(TransferError::Disconnected)?;
        Ok(qp.post_receive(receive_id(receive), &self.receives[receive as usize])?)
    }

    fn post_again(&mut self, receive: u32) -> Result<(), TransferError> {
        self.post(receive)?;
        self.owed += 1;
        Ok(())
    }

    /// Tells the peer of receives by a message of their own, once there are enough of them: until then one that goes anyway
    /// may take the news along.
    fn tell(&mut self) -> Result<(), TransferError> {
        let is_due = self.owed as usize * 2 >= self.receives.len();
        if !is_due || self.credits == 0 || self.batches.len() >= self.endpoint.depth {
            return Ok(());
        }
        let (number, nothing) = (self.started, self.receives[0].clone().take_front(ByteLen::ZERO));
        self.start(nothing, ALONE)?;
        self.alone.push_back(number);
        Ok(())
    }

    fn start(&mut self, local: MrSlice, flags: u32) -> Result<(), TransferError> {
        self.batches.push(&mut self.endpoint, Work::SendImmediate { local, immediate: flags | self.owed })?;
        self.owed = 0;
        self.credits -= 1;
        self.started += 1;
        Ok(())
    }

    /// How many of the next `finished` were the caller's.
    fn count(&mut self, finished: u32) -> u32 {
        self.finished += u64::from(finished);
        let mut own = finished;
        while self.alone.pop_front_if(|number| *number < self.finished).is_some() {
            own -= 1;
        }
        own
    }
}
