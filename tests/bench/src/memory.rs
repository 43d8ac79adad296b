//! Memory that both leases and perftest reach: a region of the daemon's, and the file that perftest maps.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;
use peermem::{
    Client,
    proto::{Method, ProviderKind, RegionName},
};

use crate::{ctl, wait::until};

/// Longer than the daemon takes to zero what a lease had.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which memory two ends have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The buffers of two drives: an emulated device is asked for each word.
    Drives,
    /// Two device DAXes: memory as good as the host's.
    Dax,
}

/// One end's.
#[derive(Debug)]
pub(crate) struct Memory {
    region: RegionName,
    file: String,
    method: Method,
}

impl Kind {
    /// The memory of the two ends.
    pub(crate) fn both(self) -> Result<[Memory; 2]> {
        let provider = match self {
            Self::Drives => ProviderKind::P2pmem,
            Self::Dax => ProviderKind::Dax,
        };
        let [from, to] = ctl::first_two(provider)?.map(|region| {
            let file = match self {
                Self::Drives => {
                    let device = region.device.context("a drive's buffer has an owner")?;
                    format!("/sys/bus/pci/devices/{device}/p2pmem/allocate")
                }
                // The benchmark's config names it so.
                Self::Dax => format!("/dev/{}", region.name),
            };
            anyhow::Ok(Memory { region: region.name, file, method: region.method })
        });
        Ok([from?, to?])
    }
}

impl Memory {
    /// What is leased.
    pub(crate) fn region(&self) -> &RegionName {
        &self.region
    }

    /// What perftest maps.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Whether it is registered on demand.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.method == Method::OnDemand
    }

    /// Waits until programs without leases may have that much: after a lease has ended, the daemon takes all of it and zeroes it.
    pub(crate) fn wait_for(&self, bytes: u64) -> Result<()> {
        until(&format!("programs without leases have {bytes} bytes of {}", self.file), PATIENCE, || {
            Ok(match self.file.strip_suffix("/allocate") {
                Some(pool) => {
                    fs::read_to_string(format!("{pool}/available"))?.trim().parse::<u64>()? >= bytes
                }
                None => {
                    let regions = Client::connect()?.regions()?;
                    regions.iter().any(|region| region.name == self.region && region.free == region.size)
                }
            })
        })
    }
}
