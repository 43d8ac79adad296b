//! `peermemctl verify`: two ends, any two regions, every byte compared.
//!
//! ```text
//! --connect (drives)                      --listen (serves)
//!   queue pair addresses, over TCP      <->
//!   Introduction: region, route, key    <->
//!   Request::Fill, Request::Compare      ->  fills or compares its own memory
//!                                        <-  Answer
//!   RDMA write or read of its own         ->  nothing to do: the devices move the bytes
//!   Request::Done, with all results      ->  (or Request::GiveUp, with the reason)
//! ```

pub(super) mod bytes;
pub(super) mod drive;
pub(super) mod end;
mod meet;
pub(super) mod receive;
mod report;
pub(super) mod serve;
pub(super) mod talk;

use anyhow::Result;
use peermem::{Client, proto::Direction, rdma::EndpointConfig};

pub(super) use self::meet::call;
use self::{
    drive::{RdmaMover, drive},
    end::{Met, Prepared},
    meet::Meeting,
    receive::{Front, Receiver},
    report::report,
    serve::serve,
};
use super::map;
use crate::{cli::Verify, output::Output};

pub(crate) fn run(client: &Client, args: &Verify, output: &Output) -> Result<()> {
    let meeting = Meeting::prepare(&args.end)?;
    let request = map::request(client, &args.region, &args.memory, Direction::Bidirectional)?;
    let prepared = Prepared::new(client, &request, EndpointConfig::default())?;

    let stream = meeting.meet()?;
    let Met { memory, endpoint, ours, theirs } = prepared.meet(&stream)?;
    let results = if args.end.connect.is_some() {
        let longest = memory.region.len().min(theirs.remote.length());
        let mut mover = RdmaMover { endpoint, local: memory.region.clone(), remote: theirs.remote };
        drive(&stream, &mut mover, &*memory.mapping, longest)?
    } else {
        let mut receiver = Receiver::new(endpoint, Box::new(Front(memory.region.clone())));
        serve(&stream, &*memory.mapping, &mut receiver)?
    };
    memory.give_back()?;
    report(output, &ours, &theirs, results)
}
