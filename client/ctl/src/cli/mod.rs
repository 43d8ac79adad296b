//! The command line, as clap reads it.

mod leases;
mod measure;

use std::path::PathBuf;

use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use clap_complete::Shell;

pub(crate) use self::{
    leases::{Claim, Explain, Hold, Leases, Map, Memory, Revoke},
    measure::{Bench, BenchOperation, Doctor, End, Selftest, Topo, Verify},
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the daemon, or failed
  2  wrong usage
  3  the daemon can't be reached, or the connection to it was lost
  4  verification or self-test found wrong bytes
  5  doctor found something that doesn't work
  6  doctor found nothing worse than a warning
  7  the lease that was held is over: revoked, or lost with a restart of the daemon

With --json, results are one JSON value a line on standard output, errors one JSON object
{\"error\": CODE, \"message\": TEXT} on standard error. `peermemctl schema` prints their schemas, which
stay as they are but for additions.";

/// The definitions of `schema.json` that are for users: the commands that print JSON, and what failures say.
pub(crate) const WITH_JSON: [&str; 14] = [
    "status", "regions", "leases", "map", "claim", "revoke", "explain", "watch", "verify", "bench", "topo",
    "doctor", "selftest", "error",
];

/// Shows and leases device memory managed by peermemd.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The daemon's socket [default: $PEERMEMD_SOCKET, else /run/peermemd/peermemd.sock if it exists or for root, else
    /// the one of this user's own daemon]
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
    Leases(Leases),
    /// Lease a mapping, print it, and hold it until Ctrl-C, SIGTERM, or the end of a pipe on standard input
    ///
    /// The lease is held across restarts of the daemon, and renewed at half its time where it expires. When it is revoked or
    /// ends otherwise, it is given back, and the exit code is 7.
    Map(Map),
    /// Take over the lease behind a token of `peermemctl map --delegate`, print it, and hold it as `map` does
    Claim(Claim),
    /// Take leases from their clients
    ///
    /// Prints for each whether the memory has been taken back, or what its client must do. The policy says who may revoke.
    Revoke(Revoke),
    /// Ask what the policy says to a user's wish, and why
    ///
    /// Prints the verdict, then every rule with the parts that don't fit. Exits with 0 if it is allowed, with 1 if not.
    Explain(Explain),
    /// Print what happens to regions and leases, as it happens
    Watch,
    /// Move bytes between two leased regions over RDMA and compare every one
    ///
    /// Run it twice, on one node or two: first with --listen, then with --connect. Each end leases and registers its
    /// region; over TCP they exchange what the other needs to reach it (whoever connects first gets that); then the
    /// connecting end writes and reads several sizes, and both compare bytes without a period.
    Verify(Verify),
    /// Measure how fast bytes go between two leased regions, and check that they arrive
    ///
    /// With --from and --to both ends are here, connected by the RDMA device with itself. With --connect the other end is
    /// a `peermemctl verify --listen` with the other region. For each size messages are moved one at a time, which gives
    /// the latency, and then as many at a time as --depth says, which gives the bandwidth; every byte is compared
    /// afterwards. Over soft-RoCE a CPU copies: its figures say nothing about hardware.
    Bench(Bench),
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
    /// Print the JSON Schema of what the commands print with --json
    ///
    /// The schemas are stable: a field that is always there stays, and so do its name, its type and its meaning. A later version
    /// may add fields, and values where a schema lists some, so a program must bear what it doesn't know.
    Schema {
        /// The command, or `error` for what failures say; without one, all of them
        #[arg(value_parser = PossibleValuesParser::new(WITH_JSON))]
        command: Option<String>,
    },
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
        /// Write the pages of all commands into this folder instead
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        all: Option<PathBuf>,
    },
}
