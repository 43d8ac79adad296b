//! `[[dax.region]]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use peermem_proto::RegionName;
use peermem_topology::DeviceName;
use serde::Deserialize;
use toml::Spanned;

use super::validate::{Wrong, once, wrong};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    region: Vec<Region>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    device: Spanned<DeviceName>,
    name: Spanned<RegionName>,
}

pub(super) fn validate(
    file: File,
    sysfs: &Path,
    names: &mut BTreeSet<RegionName>,
) -> Result<BTreeMap<DeviceName, RegionName>, Wrong> {
    let mut regions = BTreeMap::new();
    for Region { device, name } in file.region {
        let found = device.get_ref();
        if !sysfs.join("bus/dax/devices").join(found.as_str()).exists() {
            let message =
                format!("no device DAX {found} on this node: expected a name that `daxctl list` shows");
            return Err(wrong(&device, message));
        }
        if regions.contains_key(found) {
            return Err(wrong(&device, format!("{found} is already a region")));
        }
        regions.insert(found.clone(), once(names, &name)?);
    }
    Ok(regions)
}
