//! The daemon's life, from the config to the last reply.

use std::{
    cell::RefCell,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Context, Result};
use peermem_proto::socket_path::{SYSTEM_SOCKET, check_folder, user_socket};
use peermem_topology::ConfigSpaces;
use peermemd::{
    config::{self, DEFAULT_PATH, Settings},
    metrics::Metrics,
    provider::{Source, discover_p2pmem, emulated_spec},
    server::{self, Listening, LiveTopology, Shell},
};
use sd_notify::NotifyState;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::LocalSet,
};

use crate::args::Args;

const SYSFS: &str = "/sys";

/// Runs until a signal says stop.
pub(crate) fn run(args: &Args) -> Result<()> {
    let settings = settings(args)?;
    if args.check_config {
        let found = if args.config.exists() { "good" } else { "not there: the defaults count" };
        println!("{}: {found}", args.config.display());
        return Ok(());
    }
    // While the process still has its privileges: root may look at another user's lock, and the kernel checks who opened
    // a config space, not who reads it (drivers/pci/pci-sysfs.c, pci_read_config). Nothing after this needs any.
    let path = settings.socket.clone().map_or_else(default_socket, Ok)?;
    let listening = server::bind(&path)?;
    let spaces = ConfigSpaces::open(Path::new(SYSFS)).unwrap_or_else(|error| {
        tracing::warn!(%error, "can't open PCI configuration spaces: ACS stays unread");
        ConfigSpaces::default()
    });
    drop_capabilities();
    raise_descriptor_limit();

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(&settings, spaces, listening))
}

fn settings(args: &Args) -> Result<Settings> {
    let is_default = args.config == Path::new(DEFAULT_PATH);
    let mut settings = if is_default && (args.emulate.is_some() || !args.config.exists()) {
        Settings { p2pmem: args.emulate.is_none().then(Default::default), ..Settings::default() }
    } else {
        config::load(&args.config, Path::new(SYSFS)).context("the config can't be used")?
    };
    if let Some(size) = args.emulate {
        settings.emulated.push(("emulated".parse()?, size));
    }
    settings.socket = args.socket.clone().or(settings.socket);
    settings.metrics = args.metrics.or(settings.metrics);
    Ok(settings)
}

/// Gives up what only the start needed. Fails only where there was nothing to give up.
fn drop_capabilities() {
    for set in
        [caps::CapSet::Ambient, caps::CapSet::Inheritable, caps::CapSet::Effective, caps::CapSet::Permitted]
    {
        if let Err(error) = caps::clear(None, set) {
            tracing::debug!(%error, ?set, "capabilities stay");
        }
    }
}

/// One descriptor a client and one a pidfd: the usual soft limit of 1024 would be reached with 500 clients.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
}

async fn serve(settings: &Settings, spaces: ConfigSpaces, listening: Listening) -> Result<()> {
    let Listening { listener, guard } = listening;
    let listener = UnixListener::from_std(listener).context("can't watch the socket")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let topology = LiveTopology::new(SYSFS.into(), spaces);
    let mut shell = Shell::new(settings, topology, Metrics::new()?);
    add_regions(&mut shell, settings)?;
    let shell = Rc::new(RefCell::new(shell));

    if let Some(address) = settings.metrics {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("can't serve metrics at {address}"))?;
        tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
        tokio::task::spawn_local(server::serve_metrics(Rc::clone(&shell), listener));
    }
    let (stop, stopped) = watch::channel(false);
    let mut serving = tokio::task::spawn_local(server::serve(Rc::clone(&shell), listener, stopped));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving {}", guard.path().display());
    notify(NotifyState::Ready);

    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        ended = &mut serving => return ended.context("the server failed"),
    }
    notify(NotifyState::Stopping);
    shell.borrow_mut().drain();
    stop.send_replace(true);
    serving.await.context("the server failed")?;
    drop(guard);
    Ok(())
}

fn add_regions(shell: &mut Shell, settings: &Settings) -> Result<()> {
    for (name, size) in &settings.emulated {
        shell.add_region(emulated_spec(name.clone(), *size), Source::Emulated);
    }
    if let Some(rules) = &settings.p2pmem {
        let found = discover_p2pmem(Path::new(SYSFS), rules).context("can't look for peer-to-peer memory")?;
        for (spec, function) in found {
            shell.add_region(spec, Source::P2pmem(function));
        }
    }
    if shell.is_empty() {
        tracing::warn!(
            "no region: no PCI function here publishes p2pmem. Clients can register dma-bufs; --emulate 64MiB serves host \
             memory to try things"
        );
    }
    Ok(())
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "can't tell systemd");
    }
}

/// The system's socket for root, and for everyone else one of their own, in a folder that only they may write to.
fn default_socket() -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        return Ok(SYSTEM_SOCKET.into());
    }
    let path = user_socket(uid, std::env::var_os("XDG_RUNTIME_DIR").as_deref());
    if let Some(folder) = path.parent() {
        if let Err(error) = fs::DirBuilder::new().mode(0o700).create(folder)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("can't create {}", folder.display()));
        }
        let found =
            fs::symlink_metadata(folder).with_context(|| format!("can't look at {}", folder.display()))?;
        check_folder(uid, found.uid(), found.mode())
            .with_context(|| format!("{} can't be trusted with the socket", folder.display()))?;
    }
    Ok(path)
}
