//! Benchmarks of the control plane, for this machine, and of the data path, for the guest. Each prints rows; `cargo xtask bench` runs them and shows the rows.
#![forbid(unsafe_code)]
// Counts and sizes far below 2^53 become figures.
#![allow(clippy::cast_precision_loss)]

mod bounce;
mod cache;
mod client;
mod crowd;
mod ctl;
mod daemon;
mod floor;
mod footprint;
mod lease_table;
mod machine;
mod memory;
mod perftest;
mod relay;
mod restart;
mod round_trip;
mod stats;
mod steady;
mod transfers;
mod vram;
mod wait;

use anyhow::Result;
use clap::Parser;

/// Measures peermemd, the release build beside this program
#[derive(Debug, Parser)]
#[command(name = "peermem-bench")]
enum Benchmark {
    /// One client, beside a bare ping-pong
    RoundTrip,
    /// A thousand clients at once, beside one
    Crowd,
    /// Tables of many leases, beside one of few
    LeaseTable,
    /// From the start to READY
    Restart,
    /// Memory, and the program's size
    Footprint,
    /// The client's cache of memory regions, beside registrations; in the guest
    MrCache,
    /// Transfers through leases, beside perftest; in the guest
    Transfers {
        /// What they do
        operation: transfers::Operation,
        /// Between which memory
        #[arg(long, default_value = "drives")]
        between: memory::Kind,
    },
    /// Directly from device to device, beside a bounce through host memory; in the guest
    Bounce,
    /// The same from a drive's buffer to the GPU's memory; in the guest
    BounceGpu,
    /// From a drive through another's buffer to a peer's GPU, beside a bounce through host memory; in the guest
    Relay,
    /// The daemon's system calls while clients transfer; in the guest
    SteadyState,
    /// The other side of the bare ping-pong
    #[command(hide = true)]
    Floor {
        /// What it answers to a mapping
        reply: String,
    },
}

fn main() -> Result<()> {
    let benchmark = Benchmark::parse();
    match benchmark {
        Benchmark::RoundTrip => on_one_core(round_trip::run),
        Benchmark::Crowd => crowd::run(),
        Benchmark::LeaseTable => on_one_core(lease_table::run),
        Benchmark::Restart => on_one_core(restart::run),
        Benchmark::Footprint => on_one_core(footprint::run),
        Benchmark::Floor { reply } => on_one_core(|| floor::serve(&reply)),
        Benchmark::MrCache => cache::run(),
        Benchmark::Transfers { operation, between } => transfers::run(operation, between),
        Benchmark::Bounce => bounce::run(),
        Benchmark::BounceGpu => bounce::run_gpu(),
        Benchmark::Relay => relay::run(),
        Benchmark::SteadyState => steady::run(),
    }
}

/// Both sides of the control plane's figures share a core, so that no round trip waits for another one to wake up.
fn on_one_core(run: impl FnOnce() -> Result<()>) -> Result<()> {
    machine::pin_to_one_core()?;
    run()
}
