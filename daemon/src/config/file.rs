//! What the file may say, key by key. Every key has a default but those of `[[p2pmem.region]]` and `[[emulated]]`.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use peermem_proto::{PciAddress, RegionName};
use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) p2pmem: P2pmem,
    pub(super) registered: Registered,
    pub(super) emulated: Vec<Emulated>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) socket: Option<PathBuf>,
    pub(super) stall_secs: Spanned<u64>,
    pub(super) drain_secs: Spanned<u64>,
}

impl Default for Server {
    fn default() -> Self {
        Self { socket: None, stall_secs: Spanned::new(0..0, 10), drain_secs: Spanned::new(0..0, 5) }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) listen: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections_per_user: Spanned<u64>,
    pub(super) leases_per_user: Spanned<u64>,
    pub(super) regions_per_connection: Spanned<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_user: Spanned::new(0..0, 1024),
            leases_per_user: Spanned::new(0..0, 65_536),
            regions_per_connection: Spanned::new(0..0, 64),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct P2pmem {
    pub(super) enabled: bool,
    pub(super) region: Vec<P2pmemRegion>,
}

impl Default for P2pmem {
    fn default() -> Self {
        Self { enabled: true, region: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct P2pmemRegion {
    pub(super) device: Spanned<PciAddress>,
    pub(super) name: Option<Spanned<RegionName>>,
    #[serde(default)]
    pub(super) ignore: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Registered {
    pub(super) exporters: BTreeSet<String>,
}

impl Default for Registered {
    fn default() -> Self {
        // DRM drivers export VRAM and system memory through the same calls, and the kernel doesn't tell which: an
        // administrator who trusts their users to register VRAM only can add them.
        Self { exporters: ["nvidia", "vfio_pci_core"].map(str::to_owned).into() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Emulated {
    pub(super) name: Spanned<RegionName>,
    pub(super) size: Spanned<String>,
}
