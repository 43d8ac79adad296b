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
    let (mut rates, mut times) = (Vec::new(), Vec::new());
    for size in SIZES {
        let mut rate = Turns { of: format!("{} KiB", size >> 10), ours: Vec::new(), theirs: Vec::new() };
        let mut time = rate.clone();
        let sizes = format!("--sizes={size}");
        for round in 0..ROUNDS {
            // A machine that gets slower and slower is neither's advantage.
            for is_ours in [round % 2 == 0, round % 2 != 0] {
                if is_ours {
                    for measured in ctl::measure(name, &["--poll", &sizes])? {
                        rate.ours.push(measured.bytes_per_second / 1e6);
                        time.ours.push(measured.latency_ns.p50 as f64 / 1e3);
                    }
                } else {
                    rate.theirs.push(perftest(bandwidth, size)?);
                    time.theirs.push(perftest(latency, size)?);
                }
            }
        }
        rates.push(rate);
        times.push(time);
    }
    for Turns { of, ours, theirs } in with_all(rates) {
        let row = Row::in_turns(format!("{name}, {of}"), &ours, "MB/s", bandwidth, &theirs);
        row.goal(Goal::AtLeast(1.0)).print();
    }
    for Turns { of, ours, theirs } in with_all(times) {
        let row = Row::in_turns(format!("{name}, {of}, {what}"), &ours, "µs", latency, &theirs);
        row.goal(Goal::AtMost(1.0)).print();
    }
    Ok(())
}

/// What either side reached in turns, with messages of one size or of all.
#[derive(Clone)]
struct Turns {
    of: String,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// Adds the geometric means over the sizes, turn by turn: chance evens out in them.
fn with_all(mut sizes: Vec<Turns>) -> Vec<Turns> {
    let all = |side: fn(&Turns) -> &[f64]| {
        let mean = |turn: usize| {
            let logarithms = sizes.iter().map(|turns| side(turns)[turn].ln());
            (logarithms.sum::<f64>() / sizes.len() as f64).exp()
        };
        (0..ROUNDS).map(mean).collect()
    };
    let (ours, theirs) = (all(|turns| &turns.ours), all(|turns| &turns.theirs));
    sizes.push(Turns { of: "all sizes".to_owned(), ours, theirs });
    sizes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sizes_count_alike() {
        let turns = |ours, theirs| Turns {
            of: String::new(),
            ours: vec![ours; ROUNDS],
            theirs: vec![theirs; ROUNDS],
        };
        let sizes = with_all(vec![turns(1.0, 10.0), turns(16.0, 40.0)]);
        let [.., all] = &sizes[..] else { panic!("they are there") };
        for (seen, expected) in
            all.ours.iter().zip([4.0; ROUNDS]).chain(all.theirs.iter().zip([20.0; ROUNDS]))
        {
            assert!((seen - expected).abs() < 1e-9, "{seen}");
        }
    }
}
