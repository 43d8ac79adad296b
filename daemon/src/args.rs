//! The command line.

use std::path::PathBuf;

use clap::Parser;
use peermem_proto::ByteLen;
use peermemd::config::{DEFAULT_PATH, MetricsAddress, check_emulated_size};

/// Manages peer memory: decides who may map GPU, NVMe and FPGA memory for which device.
#[derive(Debug, Clone, Parser)]
#[command(name = "peermemd", version, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Read this config file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(crate) config: PathBuf,

    /// Serve this socket, whatever the config says; one that systemd passes wins
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Serve /metrics at this address, or at unix:PATH, whatever the config says
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<MetricsAddress>,

    /// For development: serve one region of host memory, called `emulated`, and nothing else; reads no config
    /// unless --config is given. Give a size such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = emulated_size)]
    pub(crate) emulate: Option<ByteLen>,

    /// Read the config, say whether it is good, and exit
    #[arg(long)]
    pub(crate) check_config: bool,

    /// What to log: error, warn, info, debug, trace, or a tracing filter such as peermemd=debug
    #[arg(long, value_name = "FILTER", env = "PEERMEMD_LOG", default_value = "info")]
    pub(crate) log: String,
}

const AFTER_HELP: &str = "\
Without --config, a missing /etc/peermemd/peermemd.toml means the defaults.
An ordinary user's socket is $XDG_RUNTIME_DIR/peermemd/peermemd.sock; root's is /run/peermemd/peermemd.sock.

SIGTERM and SIGINT stop the daemon: clients get the replies they wait for, leases end.
Exit status: 0 after a stop, 1 when it can't start or run, 2 for a wrong command line, 78 for a config that can't be used.";

fn emulated_size(text: &str) -> Result<ByteLen, String> {
    let size = text.parse().map_err(|error| format!("{error}"))?;
    check_emulated_size(size)?;
    Ok(size)
}
