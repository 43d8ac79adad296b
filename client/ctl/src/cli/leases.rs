//! Leases: who has what, and who may.

use clap::{Args, ValueEnum};
use peermem::proto::{Action, ByteLen, Direction, Initiator, LeaseId, RegionName, Token, address::Iova};

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

    /// Have the memory at that address of the one vfio initiator
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) iova: Option<Iova>,

    /// Have the device of the one vfio initiator, and hold it with the lease
    #[arg(long)]
    pub(crate) drive: bool,

    /// Ask for a lease of that many seconds [default: as long as the policy allows]
    #[arg(long, value_name = "SECS")]
    pub(crate) lease_secs: Option<u64>,

    /// Print a token by which another process can take the lease over, and hold it until that has happened; give it back
    /// and fail if it hasn't in the token's time
    #[arg(long, conflicts_with = "hold_secs")]
    pub(crate) delegate: bool,

    #[command(flatten)]
    pub(crate) hold: Hold,
}

#[derive(Debug, Args)]
pub(crate) struct Claim {
    /// The token; without it, it is read from standard input, and never shows in the list of processes
    pub(crate) token: Option<Token>,

    #[command(flatten)]
    pub(crate) hold: Hold,
}

/// How a lease is held.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Hold {
    /// Give the lease back after that many seconds
    #[arg(id = "hold_secs", long = "for", value_name = "SECS")]
    pub(crate) secs: Option<u64>,

    /// Let the lease expire rather than renew it
    #[arg(long)]
    pub(crate) no_renew: bool,

    /// How many seconds to wait for a daemon that went away
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    pub(crate) patience: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Leases {
    /// Only those that were revoked and whose clients haven't let go in time
    #[arg(long)]
    pub(crate) overdue: bool,

    /// Only those of this region
    #[arg(long)]
    pub(crate) region: Option<RegionName>,

    /// Only this user's
    #[arg(long)]
    pub(crate) mine: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The leases, by their numbers in `peermemctl leases`
    #[arg(value_name = "LEASE", required = true)]
    pub(crate) leases: Vec<LeaseId>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The user, by name or number
    #[arg(long)]
    pub(crate) user: String,

    /// A group of the user's, by name or number; repeat it [default: those that this machine knows of]
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,

    /// What the user would do: map, register, delegate, drive, revoke or watch
    #[arg(long, default_value_t = Action::Map)]
    pub(crate) action: Action,

    /// With which region; only `watch` is about none
    #[arg(long)]
    pub(crate) region: Option<RegionName>,

    /// For which device: rdma:NAME, pci:DOMAIN:BUS:DEVICE.FUNCTION, vfio:DOMAIN:BUS:DEVICE.FUNCTION or emulated
    #[arg(long)]
    pub(crate) initiator: Option<Initiator>,
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

    /// A device that does the DMA: rdma:NAME, pci:DOMAIN:BUS:DEVICE.FUNCTION, vfio:DOMAIN:BUS:DEVICE.FUNCTION or emulated. Repeat it for memory that
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
