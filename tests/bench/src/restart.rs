//! From the start of the process to READY, with an empty journal and with a full one.

use std::fs;

use anyhow::Result;
use peermem_bench::{Goal, Row, median};

use peermem_proto::call::GetStatus;

use crate::{
    client::Client,
    daemon::{Daemon, journal_in},
    machine::folder_in_memory,
    stats::millis,
};

const LEASES: u32 = 100_000;
/// The sides take turns so often.
const ROUNDS: usize = 7;

pub(crate) fn run() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut client = Client::connect(&daemon.socket())?;
    for _ in 0..LEASES {
        client.map()?;
    }
    let full = daemon.kill()?;
    let journal = fs::read(journal_in(full.path()))?;

    let (mut with_none, mut with_all, mut worked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with_none.push(millis(Daemon::start()?.start_time()));
        let folder = folder_in_memory()?;
        fs::write(journal_in(folder.path()), &journal)?;
        let daemon = Daemon::start_in(folder)?;
        with_all.push(millis(daemon.start_time()));
        worked.push(millis(daemon.processor_time()?));
        let status =
            String::from_utf8_lossy(Client::connect(&daemon.socket())?.call(&GetStatus {})?).into_owned();
        // This process, whose leases they are, lives: a daemon that dropped them would be fast.
        anyhow::ensure!(status.contains(&format!("\"waiting\":{LEASES}")), "leases were lost: {status}");
    }
    Row::new("start to READY, without leases", median(with_none), "ms").goal(Goal::AtMost(100.0)).print();
    Row::new("start to READY, with 100,000 leases", median(with_all), "ms")
        .goal(Goal::AtMost(1000.0))
        .print();
    // What else the machine does at the time doesn't count here.
    Row::new("processor time of that", median(worked), "ms").print();
    Ok(())
}
