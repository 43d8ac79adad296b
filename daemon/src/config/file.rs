//! What the file may say, key by key. Every key has a default but some of those in `[[...]]`.

use std::{collections::BTreeSet, path::PathBuf};

use peermem_proto::{PciAddress, RegionName};
use serde::Deserialize;
use toml::Spanned;

use super::{MetricsAddress, dax, vfio};
use crate::{audit::Namespace, policy::Action};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) leases: Leases,
    pub(super) p2pmem: P2pmem,
    pub(super) registered: Registered,
    pub(super) emulated: Vec<Emulated>,
    pub(super) vfio: vfio::File,
    pub(super) dax: dax::File,
    pub(super) policy: Policy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) journal: Option<Spanned<PathBuf>>,
    pub(super) stall_secs: Spanned<u64>,
    pub(super) drain_secs: Spanned<u64>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            socket: None,
            journal: None,
            stall_secs: Spanned::new(0..0, 10),
            drain_secs: Spanned::new(0..0, 5),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) audit_namespace: Option<Namespace>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) listen: Option<MetricsAddress>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections_per_user: Spanned<u64>,
    pub(super) requests_per_second_per_user: Spanned<u64>,
    pub(super) watchers_per_user: Spanned<u64>,
    pub(super) leases_per_user: Spanned<u64>,
    pub(super) bytes_per_user: Spanned<String>,
    pub(super) descriptors_per_user: Spanned<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_user: Spanned::new(0..0, 1024),
            requests_per_second_per_user: Spanned::new(0..0, 10_000),
            watchers_per_user: Spanned::new(0..0, 64),
            leases_per_user: Spanned::new(0..0, 65_536),
            bytes_per_user: Spanned::new(0..0, "1TiB".to_owned()),
            descriptors_per_user: Spanned::new(0..0, 256),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Leases {
    pub(super) revoke_grace_secs: Spanned<u64>,
    pub(super) resume_grace_secs: Spanned<u64>,
}

impl Default for Leases {
    fn default() -> Self {
        Self { revoke_grace_secs: Spanned::new(0..0, 30), resume_grace_secs: Spanned::new(0..0, 30) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct P2pmem {
    pub(super) enabled: bool,
    pub(super) hold: Option<Spanned<String>>,
    pub(super) leave: Option<Spanned<String>>,
    pub(super) region: Vec<P2pmemRegion>,
}

impl Default for P2pmem {
    fn default() -> Self {
        Self { enabled: true, hold: None, leave: None, region: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct P2pmemRegion {
    pub(super) device: Spanned<PciAddress>,
    pub(super) name: Option<Spanned<RegionName>>,
    pub(super) hold: Option<Spanned<String>>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    pub(super) rule: Vec<PolicyRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyRule {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) users: Vec<Spanned<Account>>,
    #[serde(default)]
    pub(super) uid_ranges: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<Account>>,
    pub(super) regions: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) initiators: Option<Spanned<Vec<Spanned<String>>>>,
    /// Required: what a rule allows is never a matter of guessing.
    pub(super) allow: BTreeSet<Action>,
    pub(super) bytes_per_user: Option<Spanned<String>>,
    pub(super) leases_per_user: Option<Spanned<u64>>,
    pub(super) longest_lease_secs: Option<Spanned<u64>>,
}

/// A user or a group.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a name, or an id without quotes")]
pub(super) enum Account {
    Id(u32),
    Name(String),
}
