//! `peermemctl bench`: how fast bytes go between two regions, and whether they arrive.
//!
//! ```text
//! for each way (direct, bounced) and size:
//!   fill both ends  ─►  one message at a time (latency)  ─►  --depth at a time (bandwidth)  ─►  compare every byte
//! ```
//!
//! The far end only fills and compares: it is `verify`'s listening end, in a thread of this process or elsewhere.

mod ends;
mod flow;
mod host;
mod report;
mod svg;
mod two_sided;

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context, Result};
use peermem::{Client, proto::ByteLen, rdma::Waiting};
use peermem_doctor::recommendation::Way;

use self::{
    ends::Ends,
    report::{Row, report},
};
use crate::{
    cli::{Bench, BenchOperation},
    output::Output,
};

/// How each size is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    depth: u32,
    duration: Duration,
    waiting: Waiting,
}

/// What is measured over one connection.
#[derive(Debug)]
struct Leg {
    ways: Vec<Way>,
    sizes: Vec<ByteLen>,
    /// How many messages are under way at a time, at most.
    most: u32,
}

impl Leg {
    fn longest(&self) -> ByteLen {
        self.sizes.iter().copied().max().unwrap_or(ByteLen::ZERO)
    }
}

pub(crate) fn run(client: &Client, args: &Bench, output: &Output) -> Result<()> {
    let plan = Plan {
        depth: args.depth,
        duration: Duration::from_secs(args.duration),
        waiting: if args.poll { Waiting::Polling } else { Waiting::Asleep },
    };
    let (mut rows, mut pair) = (Vec::new(), None);
    for leg in legs(args) {
        let mut ends = Ends::open(client, args, &leg)?;
        let plan = Plan { depth: plan.depth.min(leg.most), ..plan };
        let measured = measure(&mut ends, &plan, &leg);
        pair = Some(ends.close(measured.as_ref().err())?);
        rows.extend(measured?);
    }
    report(client, output, args, &pair.context("there is no size to measure")?, &rows)
}

/// One connection does for everything, but where messages bounce: their receives are of host memory, or else of the lease, and of a
/// length.
fn legs(args: &Bench) -> Vec<Leg> {
    let ways = match (args.recommend, args.bounce) {
        (true, _) => vec![Way::Direct, Way::Bounced],
        (false, true) => vec![Way::Bounced],
        (false, false) => vec![Way::Direct],
    };
    let sizes = args.sizes.iter();
    if args.operation == BenchOperation::Send && ways.contains(&Way::Bounced) {
        let each = |size| {
            // Both ways have what host memory has room for, but for the receive that is left for news of receives.
            let most = host::slots(size).saturating_sub(1).max(1);
            ways.iter().map(move |&way| Leg { ways: vec![way], sizes: vec![size], most })
        };
        sizes.flat_map(each).collect()
    } else {
        vec![Leg { ways, sizes: sizes.collect(), most: u32::MAX }]
    }
}

fn measure(ends: &mut Ends, plan: &Plan, leg: &Leg) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &size in &leg.sizes {
        for &way in &leg.ways {
            progress(way, size);
            let row = ends.measure(plan, way, size).with_context(|| format!("{size}, {way}"))?;
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Says on a terminal what is being done; the next line overwrites it.
fn progress(way: Way, size: ByteLen) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Nobody misses it where it can't be written.
        let _ = write!(stderr, "\r{size} {way}...        \r").and_then(|()| stderr.flush());
    }
}
