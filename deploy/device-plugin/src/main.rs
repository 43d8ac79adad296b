//! The device plugin's command line.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use peermem::proto::socket_path::SYSTEM_SOCKET;
use peermem_device_plugin::{Offer, Plugin, api, follow, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::filter::LevelFilter;

/// Advertises peermemd's regions to the kubelet. Pods that ask for the resource get the daemon's socket, and their region's
/// name in PEERMEM_REGION.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The daemon's socket: here, on the node, and in the pods
    #[arg(long, value_name = "PATH", default_value = SYSTEM_SOCKET)]
    socket: PathBuf,

    /// What pods ask for
    #[arg(long, value_name = "DOMAIN/NAME", default_value = "peermem.io/region")]
    resource: String,

    /// How many containers one region is given to at a time; leases divide its memory among them
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    shares: NonZeroU32,

    /// Where the kubelet and its plugins have their sockets
    #[arg(long, value_name = "FOLDER", default_value = api::FOLDER)]
    kubelet: PathBuf,

    /// What to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: LevelFilter,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let log = tracing_subscriber::fmt().with_max_level(args.log).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let (sender, offer) = watch::channel(Offer::default());
    let plugin = Plugin::new(offer, args.shares, args.socket.clone());
    tokio::select! {
        never = follow(&args.socket, Path::new("/sys"), &sender) => match never {},
        served = serve(plugin, &args.kubelet, &args.resource) => match served? {},
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
