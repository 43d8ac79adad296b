//! `peermemctl bench` and perftest, one after the other on the same memory, several times. Both poll: perftest can't sleep while it
//! writes or reads. What ours reaches asleep, as it waits unless told otherwise, has a row of its own.

use anyhow::{Context, Result};
use clap::ValueEnum;
use peermem::proto::RegionName;
use peermem_bench::{Goal, Row};

use crate::{
    ctl::{self, Measured},
    memory::{Kind, Memory},
    perftest::{self, Figure},
};

const SIZES: [u64; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// How often each size is measured by either.
const ROUNDS: usize = 6;

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

pub(crate) fn run(operation: Operation, kind: Kind) -> Result<()> {
    let memory = kind.both()?;
    let name = operation.to_possible_value().context("every operation has a name")?;
    let (name, (bandwidth, latency, what)) = (name.get_name(), programs(operation));
    let ends = memory.each_ref().map(Memory::name);
    let (mut rates, mut asleep, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for size in SIZES {
        let mut rate = Turns { of: format!("{} KiB", size >> 10), ours: Vec::new(), theirs: Vec::new() };
        let mut time = rate.clone();
        let mut slept = rate.clone();
        let sizes = format!("--sizes={size}");
        for round in 0..ROUNDS {
            // A machine that gets slower and slower is neither's advantage.
            for is_ours in [round % 2 == 0, round % 2 != 0] {
                if is_ours {
                    let polled = ours(name, ends, &[&sizes, "--poll"])?;
                    rate.ours.push(polled.bytes_per_second / 1e6);
                    time.ours.push(polled.latency_ns.p50 as f64 / 1e3);
                    slept.ours.push(ours(name, ends, &[&sizes])?.bytes_per_second / 1e6);
                } else {
                    rate.theirs.push(perftest::measure(bandwidth, Figure::Bandwidth, &memory, size)?);
                    time.theirs.push(perftest::measure(latency, Figure::Latency, &memory, size)?);
                }
            }
        }
        slept.theirs.clone_from(&rate.theirs);
        rates.push(rate);
        asleep.push(slept);
        times.push(time);
    }
    for Turns { of, ours, theirs } in with_all(rates) {
        let row = Row::in_turns(format!("{name}, {of}"), &ours, "MB/s", bandwidth, &theirs);
        row.goal(Goal::AtLeast(1.0)).print();
    }
    if let Some(Turns { of, ours, theirs }) = with_all(asleep).pop() {
        Row::in_turns(format!("{name}, {of}, asleep"), &ours, "MB/s", bandwidth, &theirs).print();
    }
    for Turns { of, ours, theirs } in with_all(times) {
        let row = Row::in_turns(format!("{name}, {of}, {what}"), &ours, "µs", latency, &theirs);
        row.goal(Goal::AtMost(1.0)).print();
    }
    Ok(())
}

/// What `peermemctl bench` measures of one size.
fn ours(operation: &str, ends: [&RegionName; 2], options: &[&str]) -> Result<Measured> {
    ctl::measure(operation, ends, options)?.pop().context("no size was measured")
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
