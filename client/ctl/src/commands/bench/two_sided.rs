//! Sends: the other end has posted receives, and answers while latency is measured.

use std::time::Instant;

use anyhow::{Result, ensure};
use peermem::{
    proto::ByteLen,
    rdma::{Messages, Waiting},
};

use super::flow::Mover;
use crate::commands::verify::{receive::Buffers, talk::deadline};

/// Messages that the other end takes and forgets.
pub(super) struct Sent<'a> {
    pub(super) messages: &'a mut Messages,
    pub(super) buffers: &'a mut dyn Buffers,
    pub(super) size: ByteLen,
}

impl Mover for Sent<'_> {
    fn has_room(&self) -> bool {
        self.messages.has_room()
    }

    fn begin(&mut self, _number: u64) -> Result<()> {
        Ok(self.messages.send(self.buffers.outgoing(self.size)?)?)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.messages.flush()?)
    }

    fn wait(&mut self, waiting: Waiting, deadline: Instant) -> Result<u32> {
        Ok(self.messages.wait(waiting, deadline)?)
    }
}

/// Messages that the other end sends back, to where they came from.
pub(super) struct Answered<'a>(pub(super) Sent<'a>);

impl Mover for Answered<'_> {
    const HOPS: u32 = 2;

    fn has_room(&self) -> bool {
        self.0.has_room()
    }

    fn begin(&mut self, number: u64) -> Result<()> {
        self.0.begin(number)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }

    fn wait(&mut self, waiting: Waiting, deadline: Instant) -> Result<u32> {
        let Sent { messages, buffers, size: expected } = &mut self.0;
        loop {
            if let Some(answer) = messages.take() {
                let found = answer.length();
                buffers.arrived(&answer)?;
                messages.give_back(answer)?;
                ensure!(found == *expected, "{expected} were sent, and {found} came back");
                return Ok(1);
            }
            messages.wait(waiting, deadline)?;
        }
    }
}

/// Sends the empty message that tells the other end to stop receiving.
pub(super) fn stop(Sent { messages, buffers, size }: Sent<'_>, waiting: Waiting) -> Result<()> {
    let deadline = deadline();
    let mut any = buffers.outgoing(size)?;
    while !messages.has_room() {
        messages.wait(waiting, deadline)?;
    }
    messages.send(any.take_front(ByteLen::ZERO))?;
    while messages.wait(waiting, deadline)? == 0 {}
    Ok(())
}
