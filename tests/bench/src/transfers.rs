//! `peermemctl bench` and perftest, one after the other on the same memory, several times. Both poll: perftest can't sleep while it
//! writes or reads.

use std::{
    fs,
    io::{Read, Seek},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use peermem_bench::{Goal, Row};

use crate::{
    ctl::{self, DEPTH},
    wait::until,
};

const SIZES: [u64; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// How often each size is measured by either.
const ROUNDS: usize = 6;
const PORT: u16 = 18515;
/// Longer than it takes until perftest can begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// Perftest's programs for `operation`, and what its latency is.
fn programs(operation: Operation) -> (&'static str, &'static str, &'static str) {
    match operation {
        // Half of the way there and back, each seen in memory by polling it; ours ends when the acknowledgement is here.
        Operation::Write => ("ib_write_bw", "ib_write_lat", "acknowledged"),
        Operation::Read => ("ib_read_bw", "ib_read_lat", "one at a time"),
        // Both: half of the way there and back.
        Operation::Send => ("ib_send_bw", "ib_send_lat", "there or back"),
    }
}

/// What `peermemctl bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    Write,
    Read,
    Send,
}

pub(crate) fn run(operation: Operation) -> Result<()> {
    let name = operation.to_possible_value().context("every operation has a name")?;
    let (name, (bandwidth, latency, what)) = (name.get_name(), programs(operation));
    let mut latencies = Vec::new();
    for size in SIZES {
        let [mut rates, mut their_rates, mut times, mut their_times] = [const { Vec::new() }; 4];
        let sizes = format!("--sizes={size}");
        let mut ours = || -> Result<()> {
            for measured in ctl::measure(name, &["--poll", &sizes])? {
                rates.push(measured.bytes_per_second / 1e6);
                times.push(measured.latency_ns.p50 as f64 / 1e3);
            }
            Ok(())
        };
        let mut theirs = || -> Result<()> {
            their_rates.push(perftest(bandwidth, size)?);
            their_times.push(perftest(latency, size)?);
            Ok(())
        };
        for round in 0..ROUNDS {
            // A machine that gets slower and slower is neither's advantage.
            if round % 2 == 0 {
                ours()?;
                theirs()?;
            } else {
                theirs()?;
                ours()?;
            }
        }
        let message = format!("{name}, {} KiB", size >> 10);
        let row = Row::in_turns(&message, &rates, "MB/s", bandwidth, &their_rates);
        row.goal(Goal::AtLeast(1.0)).print();
        let row = Row::in_turns(format!("{message}, {what}"), &times, "µs", latency, &their_times);
        latencies.push(row.goal(Goal::AtMost(1.0)));
    }
    latencies.iter().for_each(Row::print);
    Ok(())
}

/// The figure that one of its runs reports. Its two ends lose each other now and then while they begin, on a busy machine.
fn perftest(program: &str, size: u64) -> Result<f64> {
    const ATTEMPTS: u32 = 3;
    for attempt in 1.. {
        match run_perftest(program, size) {
            Err(error) if attempt < ATTEMPTS => eprintln!("once more: {error:#}"),
            done => return done,
        }
    }
    bail!("{program} wasn't tried")
}

/// The figure in its report: MB/s, or the typical latency in microseconds.
fn run_perftest(program: &str, size: u64) -> Result<f64> {
    let [from, to] = ctl::buffers()?;
    let command = |region: &peermem::proto::Region| -> Result<Command> {
        let device = region.device.context("a drive's buffer has an owner")?;
        let pool = format!("/sys/bus/pci/devices/{device}/p2pmem");
        // It takes a buffer of two messages.
        wait_for_memory(&pool, 2 * size)?;
        let mut command = Command::new(program);
        command.args(["--ib-dev=rxe0", "--odp", "--CPU-freq", &format!("--port={PORT}")]);
        command.arg(format!("--mmap={pool}/allocate"));
        command.arg(format!("--size={size}"));
        if program.ends_with("_bw") {
            // By time, as ours: a few iterations would be measured from the first page fault on.
            command.arg(format!("--tx-depth={DEPTH}")).arg("--duration=2");
        } else {
            // As many as take about as long as ours.
            command.arg(format!("--iters={}", ((32 << 20) / size).clamp(20, 1000)));
        }
        Ok(command)
    };
    let mut serving = command(&to)?;
    let log = tempfile::tempfile()?;
    let mut server = Server(serving.stdout(log.try_clone()?).stderr(log.try_clone()?).spawn()?);
    wait_for_listener()?;
    let report = ctl::succeed(command(&from)?.arg("10.0.2.15")).inspect_err(|_| {
        let mut said = String::new();
        // Only to be told of.
        let _ = (&log).rewind().and_then(|()| (&log).read_to_string(&mut said));
        eprintln!("the server said: {said}");
    })?;
    server.0.wait()?;
    let line = report.lines().find(|line| line.split_whitespace().next() == Some(&size.to_string()));
    let fields: Vec<_> = line.with_context(|| report.clone())?.split_whitespace().collect();
    // Bandwidth: size, iterations, peak, average in MiB/s. Latency: size, iterations, least, most, typical in us.
    let (at, unit) = if program.ends_with("_bw") { (3, 1.048_576) } else { (4, 1.0) };
    let figure: f64 = fields.get(at).with_context(|| report.clone())?.parse()?;
    Ok(figure * unit)
}

/// Killed if it isn't done.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the pool has that much for programs without leases: after a lease has ended, the daemon takes all of it and zeroes it.
fn wait_for_memory(pool: &str, bytes: u64) -> Result<()> {
    let available = format!("{pool}/available");
    until(&format!("{pool} has {bytes} bytes for programs without leases"), PATIENCE, || {
        Ok(fs::read_to_string(&available)?.trim().parse::<u64>()? >= bytes)
    })
}

fn wait_for_listener() -> Result<()> {
    let suffix = format!(":{PORT:04X}");
    until("perftest listens", PATIENCE, || {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
        Ok(tables.iter().flatten().flat_map(|table| table.lines()).any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.get(1).is_some_and(|local| local.ends_with(&suffix)) && fields.get(3) == Some(&"0A")
        }))
    })
}
