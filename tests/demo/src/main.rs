//! The two programs of the demo, for `demo.sh` in the guest: `gpu` owns GPU memory, `storage` owns leases of two drives'
//! memory. Together they move a file from drive A through B's memory into the GPU and back, with no host buffer between
//! two hops.
//!
//! ```text
//!            storage                                 gpu
//!            ───────                                 ───
//!   file on drive A
//!      │ 1  O_DIRECT read
//!      ▼
//!   CMB of drive B ──────── 2  RDMA WRITE ────────► GPU BAR
//!   CMB of drive A ◄─────── 3  RDMA READ ────────── GPU BAR
//!      │ 4  O_DIRECT write
//!      ▼
//!   second file on drive A
//! ```

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::Parser;

mod drive;
mod gpu;
mod metrics;
mod plan;
mod storage;
mod table;
mod talk;

#[derive(Debug, Parser)]
#[command(about = "The two programs of the demo")]
enum Role {
    /// Write the file that will travel
    Prepare {
        #[arg(long)]
        seed: u64,
        file: PathBuf,
    },
    /// Own GPU memory: register it with the daemon and let `storage` reach it
    Gpu {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Own leases of both drives' memory and move the file
    Storage {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        connect: SocketAddr,
        /// Drive A's block device; `source` and `target` are on it
        #[arg(long)]
        drive_a: PathBuf,
        /// Drive B's block device
        #[arg(long)]
        drive_b: PathBuf,
        /// The daemon's metrics
        #[arg(long)]
        metrics: SocketAddr,
        source: PathBuf,
        target: PathBuf,
    },
}

fn main() -> Result<()> {
    match Role::parse() {
        Role::Prepare { seed, file } => storage::prepare(seed, &file),
        Role::Gpu { seed, listen } => gpu::run(seed, listen),
        Role::Storage { seed, connect, drive_a, drive_b, metrics, source, target } => {
            storage::run(&storage::Job { seed, connect, drive_a, drive_b, metrics, source, target })
        }
    }
}
