//! What a daemon that has nothing to do takes.

use std::fs;

use anyhow::Result;
use peermem_bench::{Goal, Row, median};

use crate::{
    client::Client,
    daemon::{Daemon, binary},
    machine::raise_descriptor_limit,
};

const CLIENTS: u32 = 1000;
/// So many daemons are looked at.
const ROUNDS: usize = 3;

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn run() -> Result<()> {
    raise_descriptor_limit()?;
    let (mut idle, mut each) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let daemon = Daemon::start()?;
        let mut first = Client::connect(&daemon.socket())?;
        first.map_and_unmap()?;
        let before = daemon.resident()?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = Client::connect(&daemon.socket())?;
            // What a call leaves behind counts too.
            client.map_and_unmap()?;
            clients.push(client);
        }
        idle.push(before / MIB);
        each.push((daemon.resident()? - before) / f64::from(CLIENTS) / 1024.0);
    }
    let size = fs::metadata(binary()?)?.len();
    Row::new("the daemon's memory, idle", median(idle), "MiB").goal(Goal::AtMost(12.0)).print();
    Row::new("and for each idle client", median(each), "KiB").goal(Goal::AtMost(16.0)).print();
    Row::new("its program, stripped", size as f64 / MIB, "MiB").goal(Goal::AtMost(8.0)).print();
    Ok(())
}
