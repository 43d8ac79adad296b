//! Device DAX: zeroed before the first client and after each.

use std::{collections::BTreeMap, path::Path};

use peermem_proto::RegionName;
use peermem_topology::{DeviceName, Snapshot};

use super::{Shared, Shell, pool::Work};
use crate::{
    core::{Input, RegionSpec},
    provider::{
        Source,
        dax::{Dax, DaxClearing, spec},
    },
    words::in_words,
};

/// The devices that the config names and that can be opened.
pub fn offered(snapshot: &Snapshot, named: &BTreeMap<DeviceName, RegionName>) -> Vec<(RegionSpec, Source)> {
    let open = |(device, region): (&DeviceName, &RegionName)| match Dax::open(
        snapshot,
        Path::new("/dev"),
        device.clone(),
    ) {
        Ok(dax) => Some((spec(region.clone(), &dax), Source::Dax(dax))),
        Err(error) => {
            tracing::warn!(%region, "region {region} isn't served: {}", in_words(&error));
            None
        }
    };
    named.iter().filter_map(open).collect()
}

impl Shell {
    /// After a restart: what a client still has is lent, and everything else is cleared.
    pub(super) fn begin_with_dax(&mut self) {
        let regions: Vec<_> = self.sources.keys().cloned().collect();
        for region in regions {
            let Some((free, leased)) = self.broker.division_of(&region) else { continue };
            let Some(Source::Dax(dax)) = self.sources.get_mut(&region) else { continue };
            if leased.is_zero() {
                self.run(Input::Missing(region.clone(), free));
                self.clear_dax(&region);
            } else {
                dax.is_lent();
            }
        }
    }

    /// Has a device zeroed, if it is to be.
    pub(super) fn clear_dax(&mut self, region: &RegionName) {
        let Some(Source::Dax(dax)) = self.sources.get_mut(region) else { return };
        match dax.clearing() {
            Ok(Some(clearing)) => self.send(Work::ClearDax(region.clone(), clearing)),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%region, "region {region} stays out of use: {}", in_words(&error));
            }
        }
    }
}

/// Zeroes a device on a thread that may take its time.
pub(super) async fn clear(shell: Shared, region: RegionName, clearing: DaxClearing) {
    let Ok(cleared) = tokio::task::spawn_blocking(|| clearing.run()).await else { return };
    let mut shell = shell.borrow_mut();
    match (cleared, shell.sources.get_mut(&region)) {
        (Ok(cleared), Some(Source::Dax(dax))) => {
            dax.cleared(cleared);
            let size = dax.size();
            shell.run(Input::Recovered(region, size));
        }
        (Err(error), _) => {
            tracing::error!(%region, "region {region} stays out of use: {}", in_words(&error));
        }
        // It has gone meanwhile.
        (Ok(_), _) => {}
    }
}
