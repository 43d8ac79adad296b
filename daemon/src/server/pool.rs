//! Held pools: memory is zeroed on threads of its own, and ended leases' memory is waited for.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use peermem_proto::{ByteLen, ByteRange, LeaseId, PciAddress, RegionName};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{Shared, Shell, dax, functions};
use crate::{
    core::{Input, Reach},
    functions::Functions,
    provider::{
        Carving, Source, carvings,
        dax::DaxClearing,
        p2pmem::{Done, Job, Keeper, PoolError},
        vfio::Clearing,
    },
};

/// How soon memory is looked for that didn't come back with its lease; the pause doubles each time.
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// How often at least.
const RARELY: Duration = Duration::from_secs(1);

/// Something that takes its time.
#[derive(Debug)]
pub enum Work {
    /// Zero this memory of a region.
    Zero(RegionName, Job),
    /// Look whether memory of ended leases is back.
    Settle(RegionName),
    /// Zero this memory of a function.
    Clear(PciAddress, Clearing),
    /// Look whether windows of ended leases are back with a function.
    SettleFunction(PciAddress),
    /// Take a function's memory back.
    TakeBack(PciAddress),
    /// Take an initiator again as soon as nobody has its device.
    Regain(PciAddress),
    /// Watch whether the kernel wants a function back.
    Watch(PciAddress),
    /// Zero a device DAX that is a region.
    ClearDax(RegionName, DaxClearing),
}

impl Shell {
    pub(super) fn carve(
        &mut self,
        lease: LeaseId,
        region: &RegionName,
        range: ByteRange,
        reach: &Reach,
    ) -> Vec<Input> {
        let Some(source) = self.sources.get_mut(region) else {
            unreachable!("region {region} has no source")
        };
        let bar = match source {
            Source::Vfio(bar) => Some(*bar),
            _ => None,
        };
        let free = |functions: &Functions| bar.map_or(ByteLen::ZERO, |bar| functions.free(bar));
        let before = free(&self.functions);
        let carvings = source.carve(&mut self.functions, region, lease, range, reach);
        let is_refused = carvings.iter().any(|(_, outcome)| outcome.is_err());
        let mut inputs = self.carved(region, carvings);
        if let Some(bar) = bar {
            self.rewatch();
            if is_refused {
                // A window that couldn't be mapped is on its way back.
                let missing = before.saturating_sub(free(&self.functions));
                inputs.insert(0, Input::Missing(region.clone(), missing));
                self.send(Work::SettleFunction(bar.device));
            }
        }
        self.send_jobs(region);
        self.look_for(region);
        inputs
    }

    /// Keeps what was carved for the clients, and says what the core must hear: of the memory that the search for it
    /// brought back, too.
    fn carved(&mut self, region: &RegionName, carvings: Vec<Carving>) -> Vec<Input> {
        let keep = |(lease, outcome): Carving| {
            let placed = outcome.and_then(|carved| {
                let placed = carved.placed(region)?;
                self.carved.insert(lease, carved);
                Ok(placed)
            });
            Input::Carved(lease, placed)
        };
        let mut inputs: Vec<_> = carvings.into_iter().map(keep).collect();
        inputs.extend(self.recovered(region));
        inputs
    }

    fn recovered(&mut self, region: &RegionName) -> Option<Input> {
        let recovered = self.keeper(region)?.recovered();
        (!recovered.is_zero()).then(|| Input::Recovered(region.clone(), recovered))
    }

    /// Lets go of what was carved for a lease. Held memory is waited for.
    pub(super) fn release(&mut self, lease: LeaseId, region: &RegionName, range: ByteRange) -> Option<Input> {
        self.carved.remove(&lease);
        match self.sources.get_mut(region)? {
            Source::Vfio(bar) => {
                let bar = *bar;
                self.functions.release(lease, bar, range);
                self.send(Work::SettleFunction(bar.device));
                return None;
            }
            Source::Dax(dax) => {
                dax.give_back();
                self.clear_dax(region);
                return None;
            }
            _ => {}
        }
        let keeper = self.keeper(region)?;
        keeper.release(range.length());
        settle(keeper, region);
        self.send_jobs(region);
        self.look_for(region);
        self.recovered(region)
    }

    /// Has memory looked for that a pool is owed, unless it is already.
    fn look_for(&mut self, region: &RegionName) {
        if self.keeper(region).is_some_and(Keeper::wants_look) {
            self.send(Work::Settle(region.clone()));
        }
    }

    /// After a restart: what each pool has is held against what it should have.
    pub(super) fn reconcile_pools(&mut self) {
        let regions: Vec<_> = self.sources.keys().cloned().collect();
        for region in regions {
            let Some((expected, leased)) = self.broker.division_of(&region) else { continue };
            let Some(keeper) = self.keeper(&region) else { continue };
            let missing = keeper.reconcile(expected, leased);
            self.send_jobs(&region);
            if !missing.is_zero() {
                tracing::info!(%region, "{missing} of region {region} are still with others; they are waited for");
                self.run(Input::Missing(region.clone(), missing));
                self.look_for(&region);
            }
        }
    }

    /// Looks for the memory of ended leases; `true` when there is more to wait for.
    fn settle(&mut self, region: &RegionName) -> bool {
        let Some(keeper) = self.keeper(region) else { return false };
        settle(keeper, region);
        let waits = !keeper.has_all();
        self.send_jobs(region);
        if let Some(recovered) = self.recovered(region) {
            self.run(recovered);
        }
        waits
    }

    /// Goes on with memory that was zeroed.
    fn zeroed(&mut self, region: &RegionName, done: Done) {
        // The memory of a region that has gone meanwhile is dropped; its leases ended with it.
        let Some(keeper) = self.keeper(region) else { return };
        let done = carvings(keeper.done(done));
        let inputs = self.carved(region, done);
        self.send_jobs(region);
        self.look_for(region);
        for input in inputs {
            self.run(input);
        }
    }

    fn keeper(&mut self, region: &RegionName) -> Option<&mut Keeper> {
        match self.sources.get_mut(region)? {
            Source::Held(keeper) => Some(keeper),
            _ => None,
        }
    }

    fn send_jobs(&mut self, region: &RegionName) {
        let jobs = self.keeper(region).map(Keeper::jobs).unwrap_or_default();
        for job in jobs {
            self.send(Work::Zero(region.clone(), job));
        }
    }

    pub(super) fn send(&self, work: Work) {
        // It fails only when the daemon ends.
        let _ = self.work.send(work);
    }
}

fn settle(keeper: &mut Keeper, region: &RegionName) {
    match keeper.settle() {
        Ok(()) => {}
        // What follows from it comes as an event of the kernel's.
        Err(error @ PoolError::Gone(_)) => tracing::debug!(%region, %error, "can't take memory back"),
        Err(error) => tracing::warn!(%region, %error, "can't take memory back"),
    }
}

/// Looks less and less often, until there is nothing to wait for.
async fn look_until_settled(mut waits: impl FnMut() -> bool) {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        if !waits() {
            return;
        }
        pause = (pause * 2).min(RARELY);
    }
}

/// Has one task of a kind for a device: the latest.
fn replace(tasks: &mut BTreeMap<PciAddress, AbortHandle>, device: PciAddress, task: AbortHandle) {
    if let Some(earlier) = tasks.insert(device, task) {
        earlier.abort();
    }
}

/// Does the work, for ever.
///
/// # Panics
/// Outside of a `tokio::task::LocalSet`.
pub async fn work(shell: Shared, mut orders: mpsc::UnboundedReceiver<Work>) {
    while let Some(work) = orders.recv().await {
        let shell = Rc::clone(&shell);
        match work {
            Work::Zero(region, job) => {
                tokio::task::spawn_local(async move {
                    // A thread of tokio's for blocking work: it fails only where the runtime ends.
                    if let Ok(done) = tokio::task::spawn_blocking(|| job.run()).await {
                        shell.borrow_mut().zeroed(&region, done);
                    }
                });
            }
            Work::Settle(region) => {
                tokio::task::spawn_local(look_until_settled(move || shell.borrow_mut().settle(&region)));
            }
            Work::Clear(device, clearing) => {
                tokio::task::spawn_local(functions::clear(shell, device, clearing));
            }
            Work::SettleFunction(device) => {
                // At once: in most cases the client has closed its descriptor.
                if shell.borrow_mut().settle_function(device) {
                    let again = Rc::clone(&shell);
                    let settle = move || again.borrow_mut().settle_function(device);
                    let looking = tokio::task::spawn_local(look_until_settled(settle));
                    // One look is enough, however many leases have ended: an earlier one has become slow.
                    replace(&mut shell.borrow_mut().looks, device, looking.abort_handle());
                }
            }
            Work::TakeBack(device) => {
                tokio::task::spawn_local(functions::take_back(shell, device));
            }
            Work::Regain(device) => {
                tokio::task::spawn_local(functions::regain(shell, device));
            }
            Work::Watch(device) => {
                let watch = tokio::task::spawn_local(functions::watch(Rc::clone(&shell), device));
                // An earlier one is of what has been closed since, and would never end.
                replace(&mut shell.borrow_mut().watches, device, watch.abort_handle());
            }
            Work::ClearDax(region, clearing) => {
                tokio::task::spawn_local(dax::clear(shell, region, clearing));
            }
        }
    }
}
