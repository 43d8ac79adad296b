//! One client: map and unmap, beside the floor.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use peermem_bench::{Goal, Row, median};

use crate::{
    client::{Client, request},
    daemon::Daemon,
    floor::Floor,
    stats::{Sorted, micros},
};

/// The sides take turns so often, each for so many calls.
const ROUNDS: usize = 40;
const CALLS: usize = 500;

/// Calls during which system calls are counted.
const COUNTED: u32 = 1000;

pub(crate) fn run() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut client = Client::connect(&daemon.socket())?;
    let (lease, memory) = client.map()?;
    let (_floor, mut floor_client) = Floor::start(client.reply()?)?;
    drop(memory);
    client.unmap(lease)?;
    let library = peermem::Client::connect_to(daemon.socket())?;
    let request = request()?;

    let (mut ours, mut floor, mut through_library) = (Side::default(), Side::default(), Side::default());
    for _ in 0..ROUNDS {
        floor.measure(|| floor_client.map_and_unmap())?;
        ours.measure(|| client.map_and_unmap())?;
        through_library.measure(|| {
            let began = std::time::Instant::now();
            library.map(&request)?.unmap()?;
            Ok(began.elapsed())
        })?;
    }
    let unit = "µs";
    let row = |what, side: f64, floor: f64| Row::new(what, side, unit).against("bare ping-pong", floor);
    row("map + unmap, median", ours.median(), floor.median()).goal(Goal::AtMost(2.5)).print();
    row("map + unmap, 99 of 100", ours.most(), floor.most()).print();
    row("the same through the client library, median", through_library.median(), floor.median()).print();
    match count_system_calls(&daemon, &mut client) {
        // The floor: a receive and a send for each of the two.
        Ok(count) => Row::new("the daemon's system calls for both", count, "calls")
            .against("bare ping-pong", 4.0)
            .print(),
        Err(error) => eprintln!("system calls aren't counted: {error:#}"),
    }
    Ok(())
}

/// The medians and the 99th percentiles of its rounds, in µs: what else the machine does spoils some rounds, not most.
#[derive(Default)]
struct Side {
    medians: Vec<f64>,
    most: Vec<f64>,
}

impl Side {
    fn measure(&mut self, mut call: impl FnMut() -> Result<Duration>) -> Result<()> {
        let round = Sorted::new((0..CALLS).map(|_| call()).collect::<Result<_>>()?);
        self.medians.push(micros(round.median()));
        self.most.push(micros(round.percentile(99)));
        Ok(())
    }

    fn median(&self) -> f64 {
        median(self.medians.clone())
    }

    fn most(&self) -> f64 {
        median(self.most.clone())
    }
}

/// How many system calls the daemon makes for a map and an unmap, as strace sees them.
fn count_system_calls(daemon: &Daemon, client: &mut Client) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace");
    let pid = daemon.pid().to_string();
    let mut strace = Command::new("strace")
        .args(["-qq", "-f", "-p", &pid, "-o"])
        .arg(&trace)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("can't start strace")?;
    let attached = || fs::read_to_string(&trace).is_ok_and(|text| !text.is_empty());
    let mut tries = 0;
    while !attached() {
        // The daemon does nothing by itself: only a call shows that strace sees it.
        client.map_and_unmap()?;
        tries += 1;
        if tries > 1000 || strace.try_wait()?.is_some() {
            let _ = strace.kill();
            bail!("strace sees nothing of process {pid}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let lines = || fs::read_to_string(&trace).map(|text| text.lines().count());
    // What is traced still before both sides are idle again belongs to the calls before.
    std::thread::sleep(Duration::from_millis(50));
    let before = lines()?;
    for _ in 0..COUNTED {
        client.map_and_unmap()?;
    }
    std::thread::sleep(Duration::from_millis(50));
    let after = lines()?;
    rustix::process::kill_process(rustix::process::Pid::from_child(&strace), rustix::process::Signal::INT)?;
    strace.wait()?;
    Ok(f64::from(u32::try_from(after - before)?) / f64::from(COUNTED))
}
