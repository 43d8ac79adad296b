//! What travels inside a PCI hierarchy: the address by which devices below one host bridge reach each other.
//!
//! A host bridge may show the bus at other addresses to the CPU than the bus itself uses; on x86 they are the same, on Arm and
//! POWER often not. The kernel writes no file that says by how much. But a bridge's window is told twice: sysfs's `resource`
//! has it as the CPU sees it, and the bridge's own registers as the bus does.

use std::path::Path;

use peermem_proto::{BusAddr, ByteLen, PciAddress, PhysAddr};
use thiserror::Error;

use crate::{
    snapshot::Snapshot,
    sysfs::{
        SysfsError,
        bars::{Resource, resources},
        file::read_bytes,
        pci_directory,
    },
};

/// What everyone may read of a configuration space (`pci_read_config` in drivers/pci/pci-sysfs.c).
const HEADER_BYTES: u64 = 64;
/// I/O, memory, prefetchable memory and one more are the last resources of a bridge (include/linux/pci.h,
/// `PCI_BRIDGE_RESOURCES`).
const BRIDGE_RESOURCES: usize = 4;

/// A bridge's memory window, as both sides see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Where the CPU sees it.
    pub cpu: PhysAddr,
    /// Where it is on the bus.
    pub bus: BusAddr,
    /// How long it is.
    pub size: ByteLen,
}

/// Why there is no bus address.
#[derive(Debug, Error)]
pub enum BusAddressError {
    /// There is no such function.
    #[error("no PCI function {0} on this node")]
    Absent(PciAddress),
    /// Nothing tells how its host bridge shifts addresses.
    #[error("{0} is on a root bus: no bridge above it has a window to compare")]
    OnRootBus(PciAddress),
    /// The function has no such BAR.
    #[error("{address} has no memory at BAR {bar}")]
    NoSuchBar {
        /// The function.
        address: PciAddress,
        /// The BAR.
        bar: u8,
    },
    /// No window of the root port leads there.
    #[error("{size} at {cpu} aren't inside a window of {bridge}")]
    OutsideWindows {
        /// Where the CPU sees the BAR.
        cpu: PhysAddr,
        /// How long it is.
        size: ByteLen,
        /// The bridge below the host bridge.
        bridge: PciAddress,
    },
    /// The bridge's registers can't be read.
    #[error("the registers of the bridge can't be read")]
    Sysfs(#[from] SysfsError),
}

/// The bus address of memory that the CPU sees at `cpu`, or `None` where it isn't all inside one window.
pub fn bus_address(windows: &[Window], cpu: PhysAddr, size: ByteLen) -> Option<BusAddr> {
    windows.iter().find_map(|window| {
        let offset = cpu.get().checked_sub(window.cpu.get())?;
        let end = offset.checked_add(size.get())?;
        (end <= window.size.get()).then(|| window.bus.checked_add(offset)).flatten()
    })
}

/// The bus address of a BAR, by the windows of the root port above its function.
///
/// It means something to devices below the same root port only, and only where no ACS sends their requests upstream: see
/// [`Route::BusAddress`](peermem_proto::Route).
///
/// # Errors
/// [`BusAddressError`].
pub fn bus_address_of_bar(
    sysfs: &Path,
    snapshot: &Snapshot,
    address: PciAddress,
    bar: u8,
) -> Result<BusAddr, BusAddressError> {
    let function = snapshot.functions.get(&address).ok_or(BusAddressError::Absent(address))?;
    let bridge = *function.upstream.first().ok_or(BusAddressError::OnRootBus(address))?;
    let no_bar = BusAddressError::NoSuchBar { address, bar };
    let found = resources(&pci_directory(sysfs, address)).into_iter().take(6).nth(bar.into());
    let Some(Resource { start: cpu, size: Some(size), .. }) = found.filter(Resource::is_memory) else {
        return Err(no_bar);
    };
    let directory = pci_directory(sysfs, bridge);
    let header = read_bytes(&directory.join("config"), HEADER_BYTES)?;
    let windows = windows(&resources(&directory), &header);
    bus_address(&windows, cpu, size).ok_or(BusAddressError::OutsideWindows { cpu, size, bridge })
}

/// The memory windows of a bridge out of its `resource` lines and its registers. One whose sizes differ, or that is
/// closed, is left out.
fn windows(resources: &[Resource], header: &[u8]) -> Vec<Window> {
    let Some((_, [_, memory, prefetchable, _])) = resources.split_last_chunk::<BRIDGE_RESOURCES>() else {
        return Vec::new();
    };
    let register =
        |at: usize| header.get(at..)?.first_chunk().map(|bytes| u64::from(u16::from_le_bytes(*bytes)));
    let upper =
        |at: usize| header.get(at..)?.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
    // PCI-to-PCI Bridge Architecture Specification, 3.2.5: bits 15:4 are the address's bits 31:20.
    let base = |low: u64| (low & 0xfff0) << 16;
    let bounds = |low_at: usize, upper_at: Option<usize>| {
        let (low, limit) = (register(low_at)?, register(low_at + 2)?);
        // The lowest bit says whether there are upper halves.
        let wide = upper_at.filter(|_| low & 1 != 0);
        let [low_upper, limit_upper] = match wide {
            Some(at) => [upper(at)?, upper(at + 4)?],
            None => [0; 2],
        };
        Some((low_upper << 32 | base(low), limit_upper << 32 | base(limit) | 0xf_ffff))
    };
    let window = |resource: &Resource, bounds: Option<(u64, u64)>| {
        let (first, last) = bounds?;
        let size = ByteLen::new(last.checked_sub(first)?.checked_add(1)?);
        (resource.is_memory() && resource.size == Some(size)).then_some(Window {
            cpu: resource.start,
            bus: BusAddr::new(first),
            size,
        })
    };
    [window(memory, bounds(0x20, None)), window(prefetchable, bounds(0x24, Some(0x28)))]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A bridge that the CPU sees with an offset: 0xe0000000 is 0x20000000 on the bus, and 0x4000000000 is 0x8000000000.
    fn bridge(directory: &Path) {
        let closed = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let memory = "0x00000000e0000000 0x00000000e01fffff 0x0000000000000200\n";
        let prefetchable = "0x0000004000000000 0x00000043ffffffff 0x0000000000102201\n";
        let resource = [&closed.repeat(14), memory, prefetchable, closed].concat();
        fs::write(directory.join("resource"), resource).unwrap();
        let mut header = [0; 64];
        header[0x20..0x24].copy_from_slice(&[0x00, 0x20, 0x10, 0x20]);
        header[0x24..0x28].copy_from_slice(&[0x01, 0x00, 0xf1, 0xff]);
        header[0x28..0x2c].copy_from_slice(&0x80_u32.to_le_bytes());
        header[0x2c..0x30].copy_from_slice(&0x83_u32.to_le_bytes());
        fs::write(directory.join("config"), header).unwrap();
    }

    fn read(directory: &Path) -> Vec<Window> {
        let header = read_bytes(&directory.join("config"), HEADER_BYTES).unwrap();
        windows(&resources(directory), &header)
    }

    #[test]
    fn windows_are_told_from_both_sides() {
        let directory = tempfile::tempdir().unwrap();
        bridge(directory.path());
        let window = |cpu, bus, size| Window {
            cpu: PhysAddr::new(cpu),
            bus: BusAddr::new(bus),
            size: ByteLen::new(size),
        };
        assert_eq!(
            read(directory.path()),
            [window(0xe000_0000, 0x2000_0000, 2 << 20), window(0x40_0000_0000, 0x80_0000_0000, 16 << 30)]
        );
    }

    #[test]
    fn an_address_is_shifted_by_its_own_window() {
        let directory = tempfile::tempdir().unwrap();
        bridge(directory.path());
        let windows = read(directory.path());
        let at = |cpu, size| {
            bus_address(&windows, PhysAddr::new(cpu), ByteLen::new(size)).map(|address| address.get())
        };
        assert_eq!(at(0xe010_0000, 1 << 20), Some(0x2010_0000));
        assert_eq!(at(0x42_0000_0000, 8 << 30), Some(0x82_0000_0000));
        assert_eq!(at(0xe010_0000, 2 << 20), None, "it leaves the window");
        assert_eq!(at(0xdfff_f000, 4096), None);
        assert_eq!(at(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn what_does_not_fit_together_is_no_window() {
        let directory = tempfile::tempdir().unwrap();
        bridge(directory.path());
        // A closed window has its limit below its base.
        let mut header = fs::read(directory.path().join("config")).unwrap();
        header[0x20..0x24].copy_from_slice(&[0xf0, 0xff, 0x00, 0x00]);
        fs::write(directory.path().join("config"), &header).unwrap();
        assert_eq!(read(directory.path()).len(), 1);
        fs::write(directory.path().join("config"), &header[..0x26]).unwrap();
        assert_eq!(read(directory.path()), []);
        fs::write(directory.path().join("resource"), "").unwrap();
        assert_eq!(read(directory.path()), []);
    }
}
