//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use peermem::proto::{ByteLen, Direction, Initiator, RdmaName, RegionName};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the daemon, or failed
  2  wrong usage
  3  the daemon can't be reached, or the connection to it was lost
  4  verification or self-test found wrong bytes
  5  doctor found something that doesn't work
  6  doctor found nothing worse than a warning

With --json, results are one JSON value a line on standard output, errors one JSON object
{\"error\": CODE, \"message\": TEXT} on standard error.";

/// Shows and leases device memory managed by peermemd.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The daemon's socket [default: $PEERMEMD_SOCKET, else /run/peermemd/peermemd.sock if it exists, else the one of
    /// this user's own daemon]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the daemon's own state
    Status,
    /// List the regions
    Regions,
    /// List the leases
    Leases,
    /// Lease a mapping, print it, and hold it until Ctrl-C, SIGTERM, or the end of a pipe on standard input
    Map(Map),
    /// Print what happens to regions and leases, as it happens
    Watch,
    /// Move bytes between two leased regions over RDMA and compare every one
    ///
    /// Run it twice, on one node or two: first with --listen, then with --connect. Each end leases and registers its
    /// region; over TCP they exchange what the other needs to reach it (whoever connects first gets that); then the
    /// connecting end writes and reads several sizes, and both compare bytes without a period.
    Verify(Verify),
    /// Show which device can reach which memory, and by what way; needs neither the daemon nor root
    ///
    /// Without an option it prints a matrix: a row for each function that has memory to give, a column for each device
    /// that does DMA. The verdicts are those of the kernel's own rule; they are no proof that bytes arrive.
    Topo(Topo),
    /// Find what stands between device memory and the devices that want it; needs neither the daemon nor root
    ///
    /// One line a finding: pass, warn, fail, or unknown where it could not see; what was measured, why it matters, and the
    /// one thing that mends it. It changes nothing. Exits with 5 if a check failed, with 6 if one warned, else with 0.
    /// RDMA devices are opened, and move a few kilobytes between two buffers of this process.
    Doctor(Doctor),
    /// Test what an RDMA device does with every verb, registration method, alignment and packet size
    ///
    /// Moves bytes between two pieces of host memory on one device, compares every one, and prints what is right and what
    /// isn't. Exits with 4 if bytes were wrong, also where the library refuses such transfers.
    Selftest(Selftest),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page (roff)
    #[command(hide = true)]
    Man {
        /// The command that it is about; without one, peermemctl itself
        command: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Map {
    /// The region, as `peermemctl regions` lists it
    #[arg(value_name = "REGION")]
    pub(crate) region: RegionName,

    #[command(flatten)]
    pub(crate) memory: Memory,

    /// What the initiator does with the memory
    #[arg(long, value_enum, default_value_t = DirectionArg::Bidirectional)]
    pub(crate) direction: DirectionArg,

    /// Give the lease back after that many seconds
    #[arg(long = "for", value_name = "SECS")]
    pub(crate) hold_secs: Option<u64>,
}

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

/// How much memory, for which device.
#[derive(Debug, Args)]
pub(crate) struct Memory {
    /// How many bytes, such as 4MiB; without it, the whole of a window
    #[arg(long)]
    pub(crate) size: Option<ByteLen>,

    /// Where in a window the mapping starts
    #[arg(long, requires = "size")]
    pub(crate) offset: Option<ByteLen>,

    /// A device that does the DMA: rdma:NAME, pci:DOMAIN:BUS:DEVICE.FUNCTION or emulated. Repeat it for memory that
    /// several devices touch [default: the node's RDMA device if it has exactly one; emulated where the daemon emulates
    /// and there is none]
    #[arg(long = "initiator", value_name = "INITIATOR")]
    pub(crate) initiators: Vec<Initiator>,
}

/// [`Direction`], as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DirectionArg {
    Read,
    Write,
    Bidirectional,
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::Read => Self::Read,
            DirectionArg::Write => Self::Write,
            DirectionArg::Bidirectional => Self::Bidirectional,
        }
    }
}
