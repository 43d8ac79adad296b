//! Devices by their class: RDMA, NVMe, graphics and accelerators, device DAX.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use peermem_proto::{ByteLen, PciAddress, RdmaName};

use super::{
    SysfsError,
    file::{canonical, detail, parsed_names, unless_absent},
};
use crate::{
    name::DeviceName,
    snapshot::{Attachment, Dax, Network, Nvme},
};

/// A name that the protocol can't say can't be asked for either: it is left out.
pub(super) fn rdma(sysfs: &Path) -> Result<BTreeMap<RdmaName, Attachment>, SysfsError> {
    let class = sysfs.join("class/infiniband");
    let mut rdma = BTreeMap::new();
    for name in super::file::names(&class)?.iter().filter_map(|name| name.parse::<RdmaName>().ok()) {
        if let Some(path) = unless_absent(canonical(&class.join(name.as_str())))? {
            rdma.insert(name, attachment(&path));
        }
    }
    Ok(rdma)
}

/// What the RDMA device at this path is attached to: the kernel puts devices without a parent below `devices/virtual`.
fn attachment(path: &Path) -> Attachment {
    match function_above(path) {
        Some(address) => Attachment::Pci { address },
        None if path.iter().any(|component| component == "virtual") => Attachment::Software {},
        None => Attachment::Other {},
    }
}

/// The nearest PCI function on the way up from a device, as `find_parent_pci_dev` finds it.
fn function_above(path: &Path) -> Option<PciAddress> {
    path.iter().rev().find_map(|component| component.to_str()?.parse().ok())
}

pub(super) fn network(sysfs: &Path, name: &RdmaName) -> Network {
    let device = sysfs.join("class/infiniband").join(name.as_str());
    // The first GID of a RoCE port is its interface's own address; InfiniBand ports have interfaces beside them.
    let ports: Vec<DeviceName> = parsed_names(&device.join("ports"));
    let of_port = |port: &DeviceName| detail(&device.join("ports").join(port.as_str()).join(NETDEV));
    let mut netdevs: Vec<DeviceName> = ports.iter().filter_map(of_port).collect();
    if netdevs.is_empty() {
        netdevs = parsed_names(&device.join("device/net"));
    }
    netdevs.sort();
    netdevs.dedup();
    Network { netdevs, node_guid: detail(&device.join("node_guid")) }
}

const NETDEV: &str = "gid_attrs/ndevs/0";

/// Controllers without a PCI function are on the other side of a network: no peers.
pub(super) fn nvme(sysfs: &Path) -> BTreeMap<DeviceName, Nvme> {
    let controllers = with_path(&sysfs.join("class/nvme"));
    let read = |(name, path): (DeviceName, PathBuf)| {
        let address = function_above(&path)?;
        let mut namespaces: Vec<_> = parsed_names::<DeviceName>(&path)
            .iter()
            .filter_map(|entry| block_device(&name, entry.as_str()))
            .collect();
        namespaces.sort();
        // Shown for controllers that have one: `nvme_pci_attrs_are_visible` in drivers/nvme/host/pci.c.
        Some((name, Nvme { address, cmb: path.join("cmb").exists(), namespaces }))
    };
    controllers.into_iter().filter_map(read).collect()
}

/// The block device of a controller's namespace: `nvme0n1`, or with several paths to it `nvme0c1n1`, whose block device
/// is that of the subsystem, `nvme0n1`.
fn block_device(controller: &DeviceName, entry: &str) -> Option<DeviceName> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (owner, namespace) = entry.strip_prefix("nvme")?.split_once('n').filter(|(_, n)| digits(n))?;
    match owner.split_once('c') {
        None => (Some(owner) == controller.as_str().strip_prefix("nvme")).then(|| entry.parse().ok())?,
        Some((subsystem, _)) => format!("nvme{subsystem}n{namespace}").parse().ok(),
    }
}

/// The class `drm` also has connectors (`card0-VGA-1`) and a version: neither is a node.
pub(super) fn nodes(sysfs: &Path) -> BTreeMap<DeviceName, PciAddress> {
    let (drm, accel) = (with_path(&sysfs.join("class/drm")), with_path(&sysfs.join("class/accel")));
    let is_node = |name: &DeviceName| {
        let number = ["card", "renderD", "accel"].iter().find_map(|kind| name.as_str().strip_prefix(kind));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    drm.into_iter()
        .chain(accel)
        .filter(|(name, _)| is_node(name))
        .filter_map(|(name, path)| Some((name, function_above(&path)?)))
        .collect()
}

pub(super) fn dax(sysfs: &Path) -> BTreeMap<DeviceName, Dax> {
    let read = |(name, path): (DeviceName, PathBuf)| {
        let size = ByteLen::new(detail(&path.join("size"))?);
        Some((name, Dax { size, address: function_above(&path) }))
    };
    with_path(&sysfs.join("bus/dax/devices")).into_iter().filter_map(read).collect()
}

/// The devices of a class or bus, with their places in the tree.
fn with_path(class: &Path) -> Vec<(DeviceName, PathBuf)> {
    let names = parsed_names::<DeviceName>(class).into_iter();
    names.filter_map(|name| Some((name.clone(), canonical(&class.join(name.as_str())).ok()?))).collect()
}
