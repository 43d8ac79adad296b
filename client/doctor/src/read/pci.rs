//! What drivers say of PCI functions besides the topology: memory sizes, queues, and one register.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use peermem_proto::{ByteLen, PciAddress};
use peermem_topology::{Attachment, Snapshot};

use super::file;
use crate::facts::{Seen, Unseen};

fn function(sysfs: &Path, address: PciAddress) -> PathBuf {
    sysfs.join("bus/pci/devices").join(address.to_string())
}

/// What the NVMe driver keeps in a Controller Memory Buffer: its I/O submission queues, 64 bytes an entry
/// (`nvme_alloc_sq_cmds` in `drivers/nvme/host/pci.c`).
pub(super) fn driver_shares(sysfs: &Path, snapshot: &Snapshot) -> BTreeMap<PciAddress, ByteLen> {
    const ENTRY: u64 = 64;
    let share = |name: &str| {
        let controller = sysfs.join("class/nvme").join(name);
        let attribute = |attribute| file::number(&controller.join(attribute));
        // The first queue, for administration, is in host memory; `sqsize` counts from 0.
        let queues = attribute("queue_count")?.checked_sub(1)?;
        let bytes =
            attribute("sqsize")?.checked_add(1)?.checked_mul(ENTRY)?.checked_next_multiple_of(PAGE)?;
        Some(ByteLen::new(queues.checked_mul(bytes)?))
    };
    let controllers = snapshot.nvme.iter();
    controllers.filter_map(|(name, nvme)| Some((nvme.address, share(name.as_str())?))).collect()
}

/// What p2pmem is given out by.
const PAGE: u64 = 4096;

/// Graphics memory of functions whose driver says how much they have, as amdgpu does.
pub(super) fn vram(sysfs: &Path, snapshot: &Snapshot) -> BTreeMap<PciAddress, ByteLen> {
    let total = |address| file::number(&function(sysfs, address).join("mem_info_vram_total"));
    let functions = snapshot.functions.keys();
    functions.filter_map(|&address| Some((address, ByteLen::new(total(address)?)))).collect()
}

/// Whether Relaxed Ordering is enabled in each RDMA device's function.
pub(super) fn relaxed_ordering(sysfs: &Path, snapshot: &Snapshot) -> BTreeMap<PciAddress, Seen<bool>> {
    let functions = snapshot.rdma.values().filter_map(|attachment| match attachment {
        Attachment::Pci { address } => Some(*address),
        Attachment::Software {} | Attachment::Other {} => None,
    });
    functions.map(|address| (address, enabled(&function(sysfs, address).join("config")))).collect()
}

fn enabled(config: &Path) -> Seen<bool> {
    let unseen = || Unseen("the PCI Express Device Control register can't be read: run as root".to_owned());
    let file = File::open(config).map_err(|_| unseen())?;
    let byte = |offset: u8| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, u64::from(offset)).ok().map(|()| byte[0])
    };
    device_control(byte).map(|control| control & ENABLE_RELAXED_ORDERING != 0).ok_or_else(unseen)
}

/// `PCI_EXP_DEVCTL_RELAX_EN`.
const ENABLE_RELAXED_ORDERING: u8 = 1 << 4;

/// The low byte of the Device Control register, by the list of capabilities (PCI Local Bus Specification, 6.7).
fn device_control(byte: impl Fn(u8) -> Option<u8>) -> Option<u8> {
    const LIST: u8 = 0x34;
    const PCI_EXPRESS: u8 = 0x10;
    // At least four bytes each in 192: a longer list is a loop.
    const MOST: usize = 48;
    let mut capability = byte(LIST)?;
    for _ in 0..MOST {
        capability &= !0b11;
        if capability < 0x40 {
            return None;
        }
        if byte(capability)? == PCI_EXPRESS {
            return byte(capability.checked_add(8)?);
        }
        capability = byte(capability.checked_add(1)?)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_is_found_behind_other_capabilities() {
        let mut space = [0_u8; 256];
        (space[0x34], space[0x40], space[0x41]) = (0x40, 0x01, 0x60);
        (space[0x60], space[0x68]) = (0x10, 0x30);
        assert_eq!(device_control(|at| Some(space[usize::from(at)])), Some(0x30));
        let unprivileged = |at: u8| (at < 0x40).then(|| space[usize::from(at)]);
        assert_eq!(device_control(unprivileged), None);
        (space[0x60], space[0x61]) = (0x05, 0x40);
        assert_eq!(device_control(|at| Some(space[usize::from(at)])), None, "the list is a loop");
    }
}
