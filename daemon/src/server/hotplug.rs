//! Devices come and go: the kernel says so, and regions follow.

use std::{io, path::Path, time::Duration};

use peermem_proto::{ProviderKind, RegionName};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Shared, Shell};
use crate::{
    core::{Input, RegionSpec},
    provider::{
        P2pmem, P2pmemRules, Source, discover_p2pmem,
        p2pmem::{Keeper, PoolError},
    },
    uevent::{Change, Uevents},
    words::in_words,
};

/// One unplugging makes many events: how long to wait for the rest of them.
const BREATH: Duration = Duration::from_millis(50);
/// How long devices may go on changing before they are looked at all the same.
const LONGEST_BREATH: Duration = Duration::from_secs(1);
/// How long udev may take to give the daemon's user a new device's files.
const UDEV: Duration = Duration::from_millis(200);
/// How often that is waited for.
const LOOKS: u32 = 25;

const SYSFS: &str = "/sys";

/// What PCI functions offer now, with the memory that the daemon holds of it. What can't be taken is left out, and the log
/// says why.
///
/// # Errors
/// When the PCI functions can't be listed.
pub fn offered(rules: Option<&P2pmemRules>) -> io::Result<Vec<(RegionSpec, Source)>> {
    let mut ready = Vec::new();
    let found = match rules {
        Some(rules) => discover_p2pmem(Path::new(SYSFS), rules)?,
        None => Vec::new(),
    };
    for (mut spec, function) in found {
        match take(&mut spec, function) {
            Ok(source) => ready.push((spec, source)),
            Err(error) => complain(&spec.name, &error),
        }
    }
    Ok(ready)
}

fn take(spec: &mut RegionSpec, function: P2pmem) -> Result<Source, PoolError> {
    let Some(keeper) = Keeper::begin(spec.name.clone(), &function)? else {
        return Ok(Source::Counted(function));
    };
    spec.size = keeper.held();
    Ok(Source::Held(Box::new(keeper)))
}

impl Shell {
    /// Looks at every device again. `true` when there is one whose memory can't be taken yet.
    fn look_again(&mut self) -> io::Result<bool> {
        self.broker.routes_mut().read();
        let mut unready = self.open_functions();
        let Some(rules) = self.p2pmem.clone() else { return Ok(unready) };
        let found = discover_p2pmem(Path::new(SYSFS), &rules)?;
        let is_there = |name: &RegionName, incarnation: u64| {
            found.iter().any(|(spec, _)| spec.name == *name && spec.incarnation == incarnation)
        };
        let gone: Vec<_> = self.broker.specs_of(ProviderKind::P2pmem);
        for spec in gone.iter().filter(|spec| !is_there(&spec.name, spec.incarnation)) {
            self.run(Input::RegionLost(spec.name.clone()));
        }
        for (mut spec, function) in found {
            if self.sources.contains_key(&spec.name) {
                continue;
            }
            match take(&mut spec, function) {
                Ok(source) => self.add_region(spec, source),
                Err(error) => {
                    tracing::debug!(region = %spec.name, %error, "region {} isn't ready", spec.name);
                    unready = true;
                }
            }
        }
        Ok(unready)
    }
}

/// Says that a region can't be served, and why.
fn complain(region: &RegionName, error: &PoolError) {
    let reason = in_words(error);
    tracing::warn!(
        %region,
        "region {region} isn't served: {reason}. The daemon's user must be able to open it for reading and writing, which its \
         udev rule sees to"
    );
}

/// Keeps regions as the devices are, for ever. Begins with those that udev wasn't done with when the daemon started.
///
/// # Panics
/// Outside of a `tokio::task::LocalSet`.
pub async fn follow_devices(shell: Shared, mut events: Uevents) {
    loop {
        look_until_ready(&shell).await;
        match events.next().await {
            Ok(change) => settle_down(&mut events, change).await,
            Err(error) => return tracing::error!(%error, "devices that come and go aren't noticed any more"),
        }
    }
}

/// Looks at every device, again and again while udev may still be at one of them. The events that come meanwhile mean another
/// look anyway.
async fn look_until_ready(shell: &Shared) {
    for _ in 0..LOOKS {
        let looked = shell.borrow_mut().look_again();
        match looked {
            Ok(true) => sleep(UDEV).await,
            Ok(false) => return,
            Err(error) => return tracing::error!(%error, "can't look for peer-to-peer memory"),
        }
    }
}

/// Waits until no more events come.
async fn settle_down(events: &mut Uevents, first: Change) {
    tracing::debug!(?first, "devices change");
    let latest = Instant::now() + LONGEST_BREATH;
    while let Ok(Ok(_)) = timeout_at(latest.min(Instant::now() + BREATH), events.next()).await {}
}
