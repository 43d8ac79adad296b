//! From what the file says to what the daemon runs with.

use std::{collections::BTreeSet, ops::Range, path::Path, time::Duration};

use peermem_proto::{ByteLen, RegionName};
use toml::Spanned;

use super::{Connections, Settings, file};
use crate::{
    core::Limits,
    provider::{Exporters, P2pmemRules},
};

/// What is wrong, and where in the text.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

fn wrong<T>(at: &Spanned<T>, message: String) -> Wrong {
    Wrong { span: at.span(), message }
}

pub(super) fn defaults() -> Settings {
    let file = file::File::default();
    Settings {
        socket: file.server.socket,
        metrics: file.metrics.listen,
        limits: Limits {
            leases_per_user: *file.limits.leases_per_user.get_ref(),
            regions_per_connection: *file.limits.regions_per_connection.get_ref(),
        },
        connections: Connections {
            per_user: *file.limits.connections_per_user.get_ref(),
            stall: Duration::from_secs(*file.server.stall_secs.get_ref()),
            drain: Duration::from_secs(*file.server.drain_secs.get_ref()),
        },
        p2pmem: Some(P2pmemRules::default()),
        exporters: Exporters(file.registered.exporters),
        emulated: Vec::new(),
    }
}

pub(super) fn validate(file: file::File, sysfs: &Path) -> Result<Settings, Wrong> {
    let mut names = BTreeSet::new();
    Ok(Settings {
        p2pmem: p2pmem(file.p2pmem, sysfs, &mut names)?,
        emulated: emulated(file.emulated, &mut names)?,
        socket: file.server.socket,
        metrics: file.metrics.listen,
        limits: Limits {
            leases_per_user: at_least_one(&file.limits.leases_per_user)?,
            regions_per_connection: at_least_one(&file.limits.regions_per_connection)?,
        },
        connections: Connections {
            per_user: at_least_one(&file.limits.connections_per_user)?,
            stall: Duration::from_secs(at_least_one(&file.server.stall_secs)?),
            drain: Duration::from_secs(*file.server.drain_secs.get_ref()),
        },
        exporters: Exporters(file.registered.exporters),
    })
}

fn at_least_one(value: &Spanned<u64>) -> Result<u64, Wrong> {
    match *value.get_ref() {
        0 => Err(wrong(value, "0 would shut everyone out: expected a number of at least 1".to_owned())),
        number => Ok(number),
    }
}

fn once(names: &mut BTreeSet<RegionName>, name: &Spanned<RegionName>) -> Result<RegionName, Wrong> {
    let value = name.get_ref();
    if names.insert(value.clone()) {
        Ok(value.clone())
    } else {
        Err(wrong(name, format!("two regions are named {value}: expected a name that no other region has")))
    }
}

fn p2pmem(
    file: file::P2pmem,
    sysfs: &Path,
    names: &mut BTreeSet<RegionName>,
) -> Result<Option<P2pmemRules>, Wrong> {
    let mut rules = P2pmemRules::default();
    for region in file.region {
        let device = *region.device.get_ref();
        let function = sysfs.join("bus/pci/devices").join(device.to_string());
        if !function.exists() {
            let message =
                format!("no PCI function {device} on this node: expected an address that `lspci -D` lists");
            return Err(wrong(&region.device, message));
        }
        if !region.ignore && !function.join("p2pmem").exists() {
            let message = format!(
                "PCI function {device} has no peer-to-peer memory: expected one with a p2pmem folder in {}",
                function.display()
            );
            return Err(wrong(&region.device, message));
        }
        if region.ignore {
            rules.ignore.insert(device);
        }
        if let Some(name) = &region.name {
            rules.names.insert(device, once(names, name)?);
        }
    }
    Ok(file.enabled.then_some(rules))
}

fn emulated(
    file: Vec<file::Emulated>,
    names: &mut BTreeSet<RegionName>,
) -> Result<Vec<(RegionName, ByteLen)>, Wrong> {
    file.into_iter()
        .map(|region| {
            let size: ByteLen =
                region.size.get_ref().parse().map_err(|error| wrong(&region.size, format!("{error}")))?;
            check_emulated_size(size).map_err(|message| wrong(&region.size, message))?;
            Ok((once(names, &region.name)?, size))
        })
        .collect()
}

/// Whether an emulated region may have that size: whole pages, at least one.
pub(super) fn check_emulated_size(size: ByteLen) -> Result<(), String> {
    let page = ByteLen::from_usize(rustix::param::page_size());
    if size.is_zero() || !size.is_aligned(page) {
        return Err(format!(
            "{size} isn't a whole number of pages: expected a multiple of {page}, at least one"
        ));
    }
    Ok(())
}
