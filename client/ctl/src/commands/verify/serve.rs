//! The listening end: does what the other asks for with its own memory.

use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use peermem::rdma::{Waiting, exchange};

use super::{
    bytes::{Place, compare, fill},
    receive::Receive,
    report::Transfer,
    talk::{Answer, Request, deadline},
};

/// Serves until the other end is done, and gives its results.
pub(in crate::commands) fn serve(
    stream: &TcpStream,
    place: &impl Place,
    receiver: &mut impl Receive,
) -> Result<Vec<Transfer>> {
    let answer = |answer: &Answer| exchange::send(stream, answer, deadline());
    loop {
        // Lengths come from outside: `place` checks its bounds.
        let outcome = match exchange::receive(stream, deadline()).context("the other end is gone")? {
            Request::PostReceives => {
                answer(&Answer::Done { wrong: None })?;
                receiver.open(stream)?;
                continue;
            }
            Request::Receive { answer: back, poll } => {
                answer(&Answer::Done { wrong: None })?;
                receiver.receive(back, if poll { Waiting::Polling } else { Waiting::Asleep })?;
                continue;
            }
            Request::Fill { seed, length } => fill(place, seed, length).map(|()| None),
            Request::Compare { seed, length, before } => compare(place, seed, length, before),
            Request::GiveUp { why } => bail!("the other end: {why}"),
            Request::Done { transfers } => return Ok(transfers),
        };
        answer(&match outcome {
            Ok(wrong) => Answer::Done { wrong },
            Err(error) => Answer::Failed { why: format!("{error:#}") },
        })?;
    }
}
