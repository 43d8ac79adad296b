//! From what the file says to what the daemon runs with.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use peermem_proto::{ByteLen, PciAddress, RegionName};
use toml::Spanned;

use super::{Connections, Settings, dax, file, policy, vfio};
use crate::{
    core::Limits,
    provider::{Exporters, P2pmemRules, p2pmem::Amount},
};

/// What is wrong, and where in the text.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

pub(super) fn wrong<T>(at: &Spanned<T>, message: String) -> Wrong {
    Wrong { span: at.span(), message }
}

/// What an empty file means.
pub(super) fn defaults() -> Settings {
    // No default names a device, whose folder would be looked for.
    validate(file::File::default(), Path::new("/sys"))
        .unwrap_or_else(|wrong| unreachable!("a default is wrong: {}", wrong.message))
}

pub(super) fn validate(file: file::File, sysfs: &Path) -> Result<Settings, Wrong> {
    let mut names = BTreeSet::new();
    Ok(Settings {
        p2pmem: p2pmem(file.p2pmem, sysfs, &mut names)?,
        emulated: emulated(file.emulated, &mut names)?,
        vfio: vfio::validate(file.vfio, sysfs, &mut names)?,
        dax: dax::validate(file.dax, sysfs, &mut names)?,
        policy: policy::validate(file.policy)?,
        limits: limits(&file.limits, &file.leases)?,
        connections: Connections {
            per_user: at_least_one(&file.limits.connections_per_user)?,
            watchers_per_user: *file.limits.watchers_per_user.get_ref(),
            requests_per_second: at_least_one(&file.limits.requests_per_second_per_user)?,
            stall: Duration::from_secs(at_least_one(&file.server.stall_secs)?),
            drain: Duration::from_secs(*file.server.drain_secs.get_ref()),
        },
        socket: file.server.socket.map(absolute).transpose()?,
        journal: file.server.journal.map(absolute).transpose()?,
        audit_namespace: file.log.audit_namespace,
        metrics: file.metrics.listen,
        exporters: Exporters(file.registered.exporters),
    })
}

fn absolute(path: Spanned<PathBuf>) -> Result<PathBuf, Wrong> {
    if path.get_ref().is_absolute() {
        return Ok(path.into_inner());
    }
    let found = path.get_ref().display();
    Err(wrong(&path, format!("{found} depends on where the daemon is started: expected an absolute path")))
}

fn limits(limits: &file::Limits, leases: &file::Leases) -> Result<Limits, Wrong> {
    let bytes = &limits.bytes_per_user;
    Ok(Limits {
        leases_per_user: at_least_one(&limits.leases_per_user)?,
        bytes_per_user: bytes.get_ref().parse().map_err(|error| wrong(bytes, format!("{error}")))?,
        descriptors_per_user: *limits.descriptors_per_user.get_ref(),
        revoke_grace: Duration::from_secs(*leases.revoke_grace_secs.get_ref()),
        resume_grace: Duration::from_secs(*leases.resume_grace_secs.get_ref()),
    })
}

pub(super) fn at_least_one(value: &Spanned<u64>) -> Result<u64, Wrong> {
    match *value.get_ref() {
        0 => Err(wrong(value, "0 would shut everyone out: expected a number of at least 1".to_owned())),
        number => Ok(number),
    }
}

pub(super) fn once(
    names: &mut BTreeSet<RegionName>,
    name: &Spanned<RegionName>,
) -> Result<RegionName, Wrong> {
    let value = name.get_ref();
    if names.insert(value.clone()) {
        Ok(value.clone())
    } else {
        Err(wrong(name, format!("two regions are named {value}: expected a name that no other region has")))
    }
}

/// The folder of a PCI function, which must be there.
pub(super) fn function(sysfs: &Path, device: &Spanned<PciAddress>) -> Result<PathBuf, Wrong> {
    let address = device.get_ref();
    let folder = sysfs.join("bus/pci/devices").join(address.to_string());
    if folder.exists() {
        return Ok(folder);
    }
    let message =
        format!("no PCI function {address} on this node: expected an address that `lspci -D` lists");
    Err(wrong(device, message))
}

fn p2pmem(
    file: file::P2pmem,
    sysfs: &Path,
    names: &mut BTreeSet<RegionName>,
) -> Result<Option<P2pmemRules>, Wrong> {
    let mut rules = P2pmemRules::default();
    if let Some(hold) = &file.hold {
        rules.plan.amount = amount(hold)?;
    }
    if let Some(leave) = &file.leave {
        rules.plan.leave = size(leave)?;
    }
    for region in file.region {
        let device = *region.device.get_ref();
        let function = function(sysfs, &region.device)?;
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
        if let Some(hold) = &region.hold {
            rules.amounts.insert(device, amount(hold)?);
        }
    }
    Ok(file.enabled.then_some(rules))
}

fn amount(text: &Spanned<String>) -> Result<Amount, Wrong> {
    text.get_ref().parse().map_err(|message| wrong(text, message))
}

fn size(text: &Spanned<String>) -> Result<ByteLen, Wrong> {
    text.get_ref().parse().map_err(|error| wrong(text, format!("{error}")))
}

fn emulated(
    file: Vec<file::Emulated>,
    names: &mut BTreeSet<RegionName>,
) -> Result<Vec<(RegionName, ByteLen)>, Wrong> {
    file.into_iter()
        .map(|region| {
            let size = size(&region.size)?;
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
