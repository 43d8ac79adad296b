//! The listening end: does what the other asks for with its own memory.

use std::net::TcpStream;

use anyhow::{Context, Result};
use peermem::rdma::exchange;

use super::{
    bytes::{Place, Wrong, compare, fill},
    report::Transfer,
    talk::{Answer, Request, deadline},
};

/// Serves until the other end is done, and gives its results.
pub(super) fn serve(stream: &TcpStream, place: &impl Place) -> Result<Vec<Transfer>> {
    loop {
        let request = exchange::receive(stream, deadline()).context("the other end is gone")?;
        if let Request::Done { transfers } = request {
            return Ok(transfers);
        }
        let answer = match carry_out(place, &request) {
            Ok(wrong) => Answer::Done { wrong },
            Err(error) => Answer::Failed { why: format!("{error:#}") },
        };
        exchange::send(stream, &answer, deadline())?;
    }
}

/// Lengths come from outside: `place` checks its bounds.
fn carry_out(place: &impl Place, request: &Request) -> Result<Option<Wrong>> {
    match *request {
        Request::Fill { seed, length } => fill(place, seed, length).map(|()| None),
        Request::Compare { seed, length, before } => compare(place, seed, length, before),
        Request::Done { .. } => Ok(None),
    }
}
