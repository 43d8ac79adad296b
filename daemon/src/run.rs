//! The daemon's life, from the config to the last reply.

use std::{
    cell::RefCell,
    fs, io,
    os::fd::OwnedFd,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use peermem_proto::socket_path::{SYSTEM_SOCKET, check_folder, user_socket};
use peermem_topology::ConfigSpaces;
use peermemd::{
    config::{self, DEFAULT_PATH, MetricsAddress, Settings},
    core::{RegionSpec, Remembered},
    fd_store::{FdName, FdStore},
    journal::{BootId, Journal},
    metrics::Metrics,
    provider::{Source, emulated_spec},
    server::{self, Listening, LiveTopology, Memory, Shell},
    uevent::Uevents,
};
use sd_notify::NotifyState;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::{LocalSet, spawn_local},
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
    let (store, passed) = FdStore::from_environment().context("can't take what systemd passed")?;
    // While the process still has its privileges: root may look at another user's lock, and the kernel checks who opened
    // a config space, not who reads it (drivers/pci/pci-sysfs.c, pci_read_config). Nothing after this needs any, but for
    // functions without an IOMMU.
    let listening = listen(&settings, passed.sockets)?;
    let spaces = ConfigSpaces::open(Path::new(SYSFS)).unwrap_or_else(|error| {
        tracing::warn!(%error, "can't open PCI configuration spaces: ACS stays unread");
        ConfigSpaces::default()
    });
    let journal = settings.journal.clone().unwrap_or_else(|| default_journal(listening.guard.path()));
    let journal = Journal::open(&journal, BootId::current().context("can't tell this boot from others")?)
        .context("can't open the journal")?;
    drop_capabilities(!settings.vfio.no_iommu.is_empty());
    raise_descriptor_limit();

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    let local = LocalSet::new();
    let (memory, remembered) = Memory::new(journal, store);
    let start = Start { listening, spaces, memory, remembered, stored: passed.stored };
    local.block_on(&runtime, serve(args, settings, start))
}

/// Takes the socket that systemd passed, or else the place of one.
fn listen(settings: &Settings, mut passed: Vec<(String, OwnedFd)>) -> Result<Listening> {
    match (passed.pop(), passed.len()) {
        (None, _) => {
            let path = settings.socket.clone().map_or_else(default_socket, Ok)?;
            Ok(server::bind(&path)?)
        }
        (Some((name, socket)), 0) => Ok(server::adopt(&name, socket)?),
        (Some(_), more) => {
            anyhow::bail!("systemd passed {} sockets: expected one, of peermemd.socket", more + 1)
        }
    }
}

/// What was got while there were privileges, and what an earlier daemon left.
struct Start {
    listening: Listening,
    spaces: ConfigSpaces,
    memory: Memory,
    remembered: Remembered,
    stored: Vec<(FdName, OwnedFd)>,
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
    settings.metrics = args.metrics.clone().or(settings.metrics);
    Ok(settings)
}

/// Gives up what only the start needed. Fails only where there was nothing to give up.
///
/// vfio gives a function without an IOMMU to who has `CAP_SYS_RAWIO`, whenever it is opened (`vfio_group_fops_open` and
/// `vfio_group_ioctl_get_device_fd` in drivers/vfio/group.c): that one stays, if it is there, where the config names such functions.
fn drop_capabilities(no_iommu: bool) {
    let has_raw_io = || caps::has_cap(None, CapSet::Permitted, Capability::CAP_SYS_RAWIO).unwrap_or(false);
    let kept: CapsHashSet =
        (no_iommu && has_raw_io()).then_some(Capability::CAP_SYS_RAWIO).into_iter().collect();
    for (set, stays) in [
        (CapSet::Ambient, &CapsHashSet::new()),
        (CapSet::Inheritable, &CapsHashSet::new()),
        (CapSet::Effective, &kept),
        (CapSet::Permitted, &kept),
    ] {
        if let Err(error) = caps::set(None, set, stays) {
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

async fn serve(args: &Args, settings: Settings, start: Start) -> Result<()> {
    let Listening { listener, guard } = start.listening;
    let listener = UnixListener::from_std(listener).context("can't watch the socket")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reload = signal(SignalKind::hangup())?;
    // With a handler, a write past RLIMIT_FSIZE is an error of that write, and not the end of the process.
    let _journal_too_long = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    // Before the devices are looked at, so that none comes or goes unseen in between.
    let uevents = Uevents::open();

    let (work, orders) = mpsc::unbounded_channel();
    let topology = LiveTopology::new(SYSFS.into(), start.spaces);
    let offered = offered(&settings, &topology)?;
    let mut shell = Shell::new(&settings, topology, Metrics::new()?, start.memory, work);
    shell.restore(start.remembered, offered, start.stored);
    if shell.is_empty() {
        tracing::warn!(
            "no region: no PCI function here publishes p2pmem. Clients can register dma-bufs; --emulate 64MiB serves host \
             memory to try things"
        );
    }
    let shell = Rc::new(RefCell::new(shell));

    let _metrics = match &settings.metrics {
        Some(address) => Some(
            serve_metrics(&shell, address)
                .await
                .with_context(|| format!("can't serve metrics at {address}"))?,
        ),
        None => None,
    };
    match uevents {
        Ok(uevents) => drop(spawn_local(server::follow_devices(Rc::clone(&shell), uevents))),
        Err(error) => tracing::warn!(%error, "devices that come and go aren't noticed: no uevents here"),
    }
    spawn_local(server::work(Rc::clone(&shell), orders));
    spawn_local(server::keep_time(Rc::clone(&shell)));
    spawn_local(server::watch_waiting(Rc::clone(&shell), settings.limits.resume_grace));
    let (stop, stopped) = watch::channel(false);
    let mut serving = spawn_local(server::serve(Rc::clone(&shell), listener, stopped));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving {}", guard.path().display());
    notify(&[NotifyState::Ready]);
    spawn_local(feed_watchdog());
    spawn_local(reload_on(reload, args.clone(), settings, Rc::clone(&shell)));

    let last = signal(SignalKind::user_defined1())?;
    spawn_local(end_for_good(last, Rc::clone(&shell)));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        ended = &mut serving => return ended.context("the server failed"),
    }
    notify(&[NotifyState::Stopping]);
    shell.borrow_mut().drain();
    stop.send_replace(true);
    serving.await.context("the server failed")?;
    drop(guard);
    Ok(())
}

/// Serves metrics for as long as what it returns is kept.
async fn serve_metrics(shell: &server::Shared, address: &MetricsAddress) -> Result<Option<server::Guard>> {
    match address {
        MetricsAddress::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            tracing::info!("metrics at {}", MetricsAddress::Tcp(listener.local_addr()?));
            spawn_local(server::serve_metrics(Rc::clone(shell), listener));
            Ok(None)
        }
        MetricsAddress::Unix(path) => {
            let Listening { listener, guard } = server::bind(path)?;
            tracing::info!("metrics at {address}");
            spawn_local(server::serve_metrics(Rc::clone(shell), UnixListener::from_std(listener)?));
            Ok(Some(guard))
        }
    }
}

/// What there is to lease.
fn offered(settings: &Settings, topology: &LiveTopology) -> Result<Vec<(RegionSpec, Source)>> {
    let emulated =
        settings.emulated.iter().map(|(name, size)| (emulated_spec(name.clone(), *size), Source::Emulated));
    let devices = server::offered(settings.p2pmem.as_ref()).context("can't look for peer-to-peer memory")?;
    let dax = server::offered_dax(&topology.in_full(), &settings.dax);
    Ok(emulated.chain(devices).chain(dax).collect())
}

/// At SIGUSR1 nothing stays mapped: the unit sends it before a stop that no start follows. systemd doesn't tell the process that is
/// stopped, and a client that drives an initiator would keep all that is mapped for it.
async fn end_for_good(mut last: Signal, shell: server::Shared) {
    while last.recv().await.is_some() {
        tracing::info!("SIGUSR1: this stop is for good");
        shell.borrow_mut().unmap_all();
    }
}

/// Reads the config again at every SIGHUP. One that can't be used changes nothing.
async fn reload_on(mut hangup: Signal, args: Args, mut running: Settings, shell: server::Shared) {
    while hangup.recv().await.is_some() {
        // With `Type=notify-reload`, `systemctl reload` returns at the READY that follows.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "can't tell systemd when the reload began"),
        }
        match settings(&args) {
            Ok(new) => {
                shell.borrow_mut().reconfigure(&running, &new);
                // What counts from the next start on still is as it was, whoever reads the config once more.
                let Settings { socket, journal, metrics, p2pmem, emulated, vfio, dax, .. } = running;
                running = Settings { socket, journal, metrics, p2pmem, emulated, vfio, dax, ..new };
            }
            Err(error) => shell.borrow_mut().refuse_config(&error),
        }
        notify(&[NotifyState::Ready]);
    }
}

/// Tells systemd twice in its period that this thread still turns, where the unit has a `WatchdogSec=`.
async fn feed_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    loop {
        tokio::time::sleep(period / 2).await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "can't tell systemd");
    }
}

/// In the folder that systemd keeps for the service over a restart, or else beside the socket.
fn default_journal(socket: &Path) -> PathBuf {
    let folder =
        std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let beside = || socket.parent().map(Path::to_owned).unwrap_or_default();
    folder.unwrap_or_else(beside).join("leases.journal")
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
