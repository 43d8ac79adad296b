//! Memory that both leases and perftest reach: a region of the daemon's, and the file that perftest maps.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;
use peermem::{
    Client,
    proto::{Method, ProviderKind, Region, RegionName},
};

use crate::{ctl, wait::until};

/// Longer than the daemon takes to zero what a lease had.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which memory two ends have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The buffers of two drives: an emulated device is asked for each word.
    Drives,
    /// Two device DAXes: memory as fast as the host's.
    Dax,
}

/// One end's.
#[derive(Debug)]
pub(crate) struct Memory {
    region: Region,
    /// The folder of a drive's pool; a device DAX has none.
    pool: Option<PathBuf>,
}

impl Kind {
    /// The memory of the two ends.
    pub(crate) fn both(self) -> Result<[Memory; 2]> {
        let provider = match self {
            Self::Drives => ProviderKind::P2pmem,
            Self::Dax => ProviderKind::Dax,
        };
        Ok(ctl::first_two(provider)?.map(|region| {
            let pool = region.device.filter(|_| self == Self::Drives);
            let pool = pool.map(|device| format!("/sys/bus/pci/devices/{device}/p2pmem").into());
            Memory { region, pool }
        }))
    }
}

impl Memory {
    /// What is leased.
    pub(crate) fn name(&self) -> &RegionName {
        &self.region.name
    }

    /// What perftest maps.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.pool {
            Some(pool) => pool.join("allocate"),
            // The benchmark's config names the region so.
            None => format!("/dev/{}", self.region.name).into(),
        }
    }

    /// Whether it is registered on demand.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.region.method == Method::OnDemand
    }

    /// Waits until programs without leases may have that much: after a lease has ended, the daemon takes all of it and zeroes it.
    pub(crate) fn wait_for(&self, bytes: u64) -> Result<()> {
        let what = format!("programs without leases have {bytes} bytes of {}", self.name());
        until(&what, PATIENCE, || match &self.pool {
            Some(pool) => {
                let available = fs::read_to_string(pool.join("available"))?;
                Ok(available.trim().parse::<u64>().context("a number of bytes was expected")? >= bytes)
            }
            None => {
                let regions = Client::connect()?.regions()?;
                Ok(regions.iter().any(|region| region.name == *self.name() && region.free == region.size))
            }
        })
    }
}
