//! What devices do: moving bytes, how fast and whether rightly, and what is in their way.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use peermem::proto::{Initiator, RdmaName, RegionName};

use super::Memory;
use crate::sizes::Sizes;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) end: End,

    /// The region, as `peermemctl regions` lists it
    #[arg(long)]
    pub(crate) region: RegionName,

    #[command(flatten)]
    pub(crate) memory: Memory,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What this end's device does
    #[arg(value_enum)]
    pub(crate) operation: BenchOperation,

    /// The region that the bytes come from, as `peermemctl regions` lists it
    #[arg(long, value_name = "REGION")]
    pub(crate) from: Option<RegionName>,

    /// The region that they go to; it is overwritten
    #[arg(long, value_name = "REGION")]
    pub(crate) to: Option<RegionName>,

    /// Reach the other end there: `peermemctl verify --listen ADDR:PORT --region REGION`
    #[arg(long, value_name = "ADDR:PORT", conflicts_with_all = ["bounce", "recommend"])]
    pub(crate) connect: Option<String>,

    /// Lengths of messages: one, or every doubling between two
    #[arg(long, default_value = "4KiB..4MiB", value_name = "SIZE|SIZE..SIZE")]
    pub(crate) sizes: Sizes,

    /// How many messages are under way at a time, at most: the table says how many there was room for
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) depth: u32,

    /// How long each size is measured, twice
    #[arg(long, default_value_t = 1, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=30))]
    pub(crate) duration: u64,

    /// Wait for completions by polling, which takes a core, instead of sleeping
    #[arg(long)]
    pub(crate) poll: bool,

    /// Move the bytes through host memory at both ends: device to host by CPU, host to host by RDMA, host to device
    #[arg(long, conflicts_with = "recommend")]
    pub(crate) bounce: bool,

    /// Measure both ways, and say which is the better one for this pair at each size
    #[arg(long)]
    pub(crate) recommend: bool,

    /// Keep the recommendation, for `peermemctl doctor` to quote: root in /var/lib/peermem, others in $XDG_STATE_HOME/peermem
    #[arg(long, requires = "recommend")]
    pub(crate) save: bool,

    /// Draw bandwidth over size
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// The RDMA device, as rdma:NAME [default: the node's only one]
    #[arg(long, value_name = "INITIATOR")]
    pub(crate) initiator: Option<Initiator>,
}

/// What a benchmark's device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOperation {
    /// RDMA writes to the other end's memory
    Write,
    /// RDMA reads of the other end's memory
    Read,
    /// Sends into receives of the other end's; latency is half of the way there and back
    Send,
}

impl BenchOperation {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Send => "send",
        }
    }
}

/// Which end of a verification this is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct End {
    /// Wait for the other end at this address
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,

    /// Connect to the other end; waits up to 30 s for it to listen
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) connect: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Topo {
    /// Print the hierarchy of bridges and devices
    #[arg(long, conflicts_with_all = ["pair", "svg", "record"])]
    pub(crate) tree: bool,

    /// Explain one pair in full. Devices go by PCI address or by name, such as nvme0, renderD128, mlx5_0
    #[arg(long, num_args = 2, value_names = ["PROVIDER", "INITIATOR"])]
    pub(crate) pair: Option<Vec<String>>,

    /// Draw the hierarchy as SVG, with the way of --pair marked
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Ask about a machine that was recorded, not about this one
    #[arg(long, value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,

    /// Record this machine: JSON for --snapshot, without addresses of memory
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pair", "svg", "snapshot"])]
    pub(crate) record: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at one pair only, and explain it in full. Devices go by PCI address or by name
    #[arg(long, num_args = 2, value_names = ["PROVIDER", "INITIATOR"])]
    pub(crate) pair: Option<Vec<String>>,

    /// Look at the limits of this systemd unit too
    #[arg(long, value_name = "NAME")]
    pub(crate) unit: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Selftest {
    /// The RDMA device [default: the node's only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<RdmaName>,

    /// Its port, counted from 1
    #[arg(long, default_value_t = 1)]
    pub(crate) port: u8,

    /// Test whether bytes arrive from every NVMe drive in every region of peer memory instead; drives are only read.
    /// Needs the daemon and the right to read the drives
    #[arg(long, conflicts_with_all = ["device", "port"])]
    pub(crate) pairs: bool,

    /// A short test of every RDMA device, and --pairs, and tell the daemon, which then refuses what was found to lose
    /// bytes. Root only
    #[arg(long, conflicts_with_all = ["device", "port"])]
    pub(crate) report: bool,
}
