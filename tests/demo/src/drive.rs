//! An NVMe drive: its block device, the PCI function behind it, and that function's memory.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use peermem::{
    Client, Lease,
    proto::{ByteLen, Direction, Extent, Initiator, PciAddress, ProviderKind, call::Map},
};

/// The PCI function that a block device belongs to: the last one in its path in sysfs.
pub(crate) fn function(block_device: &Path) -> Result<PciAddress> {
    let name = block_device.file_name().context("not a block device")?;
    let link = Path::new("/sys/class/block").join(name);
    let path = fs::canonicalize(&link).with_context(|| format!("can't follow {}", link.display()))?;
    path.components()
        .rev()
        .find_map(|part| part.as_os_str().to_str()?.parse().ok())
        .with_context(|| format!("{} isn't on PCI", block_device.display()))
}

/// Leases `size` bytes of the memory of `owner`, for every one of `initiators`.
pub(crate) fn lease(
    client: &Client,
    owner: PciAddress,
    size: usize,
    initiators: &[Initiator],
) -> Result<Lease> {
    let regions = client.regions()?;
    let region = regions
        .iter()
        .find(|region| region.device == Some(owner) && region.provider == ProviderKind::P2pmem)
        .with_context(|| format!("the daemon knows no memory of {owner}"))?;
    let request = Map::new(
        region.name.clone(),
        Extent::Size(ByteLen::from_usize(size)),
        initiators.iter().cloned(),
        Direction::Bidirectional,
    );
    Ok(client.map(&request)?)
}
