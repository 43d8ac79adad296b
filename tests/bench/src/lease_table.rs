//! Tables of 10, 1,000 and 100,000 leases: what those cost who come after.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use peermem_bench::{Goal, Row, median};
use peermem_proto::{
    LeaseId,
    call::{LeasePage, ListLeases},
    varlink::decode_reply,
};

use crate::{
    client::Client,
    daemon::Daemon,
    stats::{Sorted, micros},
};

/// The tables take turns so often, each for so many calls.
const ROUNDS: usize = 30;
const CALLS: usize = 500;
/// The lists are read so often.
const READS: usize = 5;

pub(crate) fn run() -> Result<()> {
    let (mut small, mut middle, mut large) = (Table::new(10)?, Table::new(1000)?, Table::new(100_000)?);
    for _ in 0..ROUNDS {
        for table in [&mut small, &mut middle, &mut large] {
            table.call()?;
        }
    }
    for _ in 0..READS {
        for table in [&mut middle, &mut large] {
            table.read()?;
        }
    }
    let grows_to = |table: &Table| {
        Row::new(format!("map + unmap beside {} leases", table.size), table.call_time(), "µs")
            .against(format!("beside {}", small.size), small.call_time())
    };
    grows_to(&middle).print();
    grows_to(&large).goal(Goal::AtMost(1.3)).print();
    Row::new("listing 100,000 leases, a lease", large.read_time(), "µs")
        .against("listing 1,000", middle.read_time())
        .print();
    Row::new("the daemon's memory, a lease", large.memory / 1024.0, "KiB").goal(Goal::AtMost(1.0)).print();
    Ok(())
}

/// A daemon with so many leases.
struct Table {
    _daemon: Daemon,
    client: Client,
    size: u32,
    /// What a lease costs the daemon, in bytes.
    memory: f64,
    /// Of each round, the median, in µs.
    calls: Vec<f64>,
    /// What reading the whole list took, in µs a lease.
    reads: Vec<f64>,
}

impl Table {
    fn new(size: u32) -> Result<Self> {
        let daemon = Daemon::start()?;
        let mut client = Client::connect(&daemon.socket())?;
        client.map_and_unmap()?;
        let before = daemon.resident()?;
        for _ in 0..size {
            // The lease lasts without it.
            let (_lease, _memory) = client.map()?;
        }
        let memory = (daemon.resident()? - before) / f64::from(size);
        Ok(Self { _daemon: daemon, client, size, memory, calls: Vec::new(), reads: Vec::new() })
    }

    fn call(&mut self) -> Result<()> {
        let took = (0..CALLS).map(|_| self.client.map_and_unmap()).collect::<Result<Vec<Duration>>>()?;
        self.calls.push(micros(Sorted::new(took).median()));
        Ok(())
    }

    /// Reads the list, page by page.
    fn read(&mut self) -> Result<()> {
        let began = Instant::now();
        let (mut after, mut seen) = (None::<LeaseId>, 0_u32);
        loop {
            let reply = self.client.call(&ListLeases { after })?;
            let page: LeasePage = decode_reply(reply)?.parameters;
            seen += u32::try_from(page.leases.len())?;
            after = page.leases.last().map(|lease| lease.id);
            if !page.more {
                break;
            }
        }
        ensure!(seen == self.size, "{seen} leases are listed, and there are {}", self.size);
        self.reads.push(micros(began.elapsed()) / f64::from(seen));
        Ok(())
    }

    fn call_time(&self) -> f64 {
        median(self.calls.clone())
    }

    fn read_time(&self) -> f64 {
        median(self.reads.clone())
    }
}
