//! Device to device, and through host memory.

use anyhow::{Context, Result};
use peermem::{Client, proto::RegionName};
use peermem_bench::{Row, median};

use crate::{ctl, vram};

const SIZES: &str = "--sizes=4KiB..4MiB";
const ROUNDS: usize = 3;

/// Between the buffers of two drives.
pub(crate) fn run() -> Result<()> {
    let [from, to] = ctl::buffers()?;
    compare(&from.name, &to.name)
}

/// From a drive's buffer to the GPU's memory.
pub(crate) fn run_gpu() -> Result<()> {
    let [from, _] = ctl::buffers()?;
    let vram = vram::register(&Client::connect()?, 8 << 20)?;
    compare(&from.name, &vram.region().name)
}

/// No goal: where the RDMA device is a CPU, a bounce may well win, and the figures have to say so.
fn compare(from: &RegionName, to: &RegionName) -> Result<()> {
    let mut measured = Vec::new();
    for _ in 0..ROUNDS {
        measured.extend(ctl::measure("write", [from, to], &["--recommend", "--poll", SIZES])?);
    }
    let mut kinds: Vec<_> = measured.iter().map(|measured| (measured.bytes, measured.depth)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for (bytes, depth) in kinds {
        let rate = |way: &str| {
            let of = measured.iter().filter(|measured| measured.bytes == bytes && measured.way == way);
            let rates: Vec<_> = of.map(|measured| measured.bytes_per_second / 1e6).collect();
            (!rates.is_empty()).then(|| median(rates)).with_context(|| format!("{bytes} {way} is missing"))
        };
        Row::new(format!("write, {} KiB, {depth} under way, direct", bytes >> 10), rate("direct")?, "MB/s")
            .against("bounced", rate("bounced")?)
            .print();
    }
    Ok(())
}
