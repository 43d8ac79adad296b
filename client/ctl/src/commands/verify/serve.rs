//! The listening end: does what the other asks for with its own memory.

use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use peermem::rdma::exchange;

use super::{
    bytes::{Place, compare, fill},
    report::Transfer,
    talk::{Answer, Request, deadline},
};

/// Serves until the other end is done, and gives its results.
pub(super) fn serve(stream: &TcpStream, place: &impl Place) -> Result<Vec<Transfer>> {
    loop {
        // Lengths come from outside: `place` checks its bounds.
        let outcome = match exchange::receive(stream, deadline()).context("the other end is gone")? {
            Request::Fill { seed, length } => fill(place, seed, length).map(|()| None),
            Request::Compare { seed, length, before } => compare(place, seed, length, before),
            Request::GiveUp { why } => bail!("the other end: {why}"),
            Request::Done { transfers } => return Ok(transfers),
        };
        let answer = match outcome {
            Ok(wrong) => Answer::Done { wrong },
            Err(error) => Answer::Failed { why: format!("{error:#}") },
        };
        exchange::send(stream, &answer, deadline())?;
    }
}
