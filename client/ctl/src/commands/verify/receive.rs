//! The listening end's part in sends: it posts receives, and takes what comes.

use std::{net::TcpStream, sync::Arc};

use anyhow::{Context, Result};
use peermem::{
    proto::ByteLen,
    rdma::{Endpoint, Message, Messages, Waiting},
    verbs::{MemoryRegion, MrSlice},
};

use super::{drive::front, talk::deadline};

/// Who takes what is sent here.
pub(in crate::commands) trait Receive {
    /// Posts receives, and tells the other end of them.
    fn open(&mut self, stream: &TcpStream) -> Result<()>;
    /// Takes messages until an empty one comes, and sends them back where that is wanted.
    fn receive(&mut self, answer: bool, waiting: Waiting) -> Result<()>;
}

/// Where messages are received, and sent from.
pub(in crate::commands) trait Buffers {
    /// As many receives as there is room for, but no more than `most`.
    fn receives(&self, most: u32) -> Result<Vec<MrSlice>>;
    /// The next message to send, of this length.
    fn outgoing(&mut self, length: ByteLen) -> Result<MrSlice>;
    /// Does what is to be done with a message that has come, before its receive is posted again.
    fn arrived(&mut self, message: &Message) -> Result<()>;
}

/// The front of registered memory: all messages go from there, and all overwrite it, since each has the same bytes.
pub(in crate::commands) struct Front(pub(in crate::commands) Arc<MemoryRegion>);

impl Buffers for Front {
    fn receives(&self, most: u32) -> Result<Vec<MrSlice>> {
        /// The longest that one work request can take.
        const LONGEST: ByteLen = ByteLen::new(u32::MAX as u64);
        let receive = front(&self.0, self.0.len().min(LONGEST))?;
        Ok(vec![receive; most as usize])
    }

    fn outgoing(&mut self, length: ByteLen) -> Result<MrSlice> {
        front(&self.0, length)
    }

    fn arrived(&mut self, _message: &Message) -> Result<()> {
        Ok(())
    }
}

/// Receives into buffers.
pub(in crate::commands) struct Receiver {
    endpoint: Option<Endpoint>,
    messages: Option<Messages>,
    buffers: Box<dyn Buffers>,
}

impl Receiver {
    pub(in crate::commands) fn new(endpoint: Endpoint, buffers: Box<dyn Buffers>) -> Self {
        Self { endpoint: Some(endpoint), messages: None, buffers }
    }
}

impl Receive for Receiver {
    fn open(&mut self, stream: &TcpStream) -> Result<()> {
        let endpoint = self.endpoint.take().context("the receives are posted already")?;
        self.messages = Some(messages(endpoint, &*self.buffers, stream)?);
        Ok(())
    }

    fn receive(&mut self, answer: bool, waiting: Waiting) -> Result<()> {
        let messages = self.messages.as_mut().context("no receives are posted")?;
        let deadline = deadline();
        loop {
            let Some(message) = messages.take() else {
                messages.wait(waiting, deadline)?;
                continue;
            };
            let length = message.length();
            self.buffers.arrived(&message)?;
            messages.give_back(message)?;
            if length.is_zero() {
                return Ok(());
            }
            if answer {
                messages.send(self.buffers.outgoing(length)?)?;
            }
        }
    }
}

/// Posts as many receives as there is room for, and tells the other end of them.
pub(in crate::commands) fn messages(
    endpoint: Endpoint,
    buffers: &dyn Buffers,
    stream: &TcpStream,
) -> Result<Messages> {
    let receives = buffers.receives(endpoint.receives())?;
    Ok(Messages::new(endpoint, receives, stream, deadline())?)
}
