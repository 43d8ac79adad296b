//! The functions that profiles `iommu`, `iommufd` and `no-iommu` bind to vfio-pci.

use std::{fs, os::fd::AsFd as _, path::Path};

use peermem::verbs::Memory;
use peermem_proto::{ByteLen, ByteRange, PciAddress};
use peermem_topology::{ConfigSpaces, PciId, Snapshot};
use peermemd::{
    provider::vfio::{Clearing, VfioProvider},
    sys::vfio::{BarIndex, Device},
    vfio::{Backend, Taking},
};

/// A display adapter whose BAR 0 is its memory.
pub const GPU: (PciId, BarIndex) = (PciId { vendor: 0x1234, device: 0x1111 }, bar(0));
/// ivshmem, whose BAR 2 is memory: an FPGA with memory on board.
pub const FPGA: (PciId, BarIndex) = (PciId { vendor: 0x1af4, device: 0x1110 }, bar(2));
/// QEMU's educational device, which has a DMA engine.
pub const EDU: PciId = PciId { vendor: 0x1234, device: 0x11e8 };

/// The BAR of this number.
pub const fn bar(index: u8) -> BarIndex {
    BarIndex::new(index).expect("a function has BARs 0 to 5")
}

/// How functions are taken: by iommufd in scenarios of the profile of that name, by containers in all others.
pub fn taking() -> Taking {
    let program = std::env::current_exe().unwrap();
    let by_iommufd = program.file_name().unwrap().to_str().unwrap().starts_with("iommufd_");
    let backend = if by_iommufd { Backend::Iommufd } else { Backend::Container };
    Taking { backend, ..Taking::default() }
}

/// The machine's PCI tree with everything that is known of it.
pub fn snapshot() -> Snapshot {
    Snapshot::read_in_full(Path::new("/sys"), None, &ConfigSpaces::default()).unwrap()
}

/// The function with this ID.
pub fn address_of(id: PciId) -> PciAddress {
    let snapshot = snapshot();
    let found = snapshot.functions.iter().find(|(_, function)| function.id == id);
    *found.unwrap_or_else(|| panic!("no function {id}")).0
}

/// A function's BAR, served and cleared.
pub fn served((id, bar): (PciId, BarIndex)) -> VfioProvider {
    let (mut provider, clearings) = VfioProvider::open(&snapshot(), address_of(id), &[bar].into(), taking())
        .unwrap_or_else(|error| panic!("{error}"));
    clear(&mut provider, clearings);
    provider
}

/// Does what the daemon's clearing thread would.
pub fn clear(provider: &mut VfioProvider, clearings: Vec<Clearing>) {
    for clearing in clearings {
        assert!(provider.cleared(clearing.run().unwrap()));
    }
}

/// A part of a BAR, mapped for the scenario's own look at it.
pub fn look_at(device: &Device, bar: BarIndex, range: ByteRange) -> Memory {
    let region = device.bar(bar).unwrap();
    Memory::shared(device.as_fd(), region.offset + range.offset().get(), range.length()).unwrap()
}

/// A range, from numbers.
pub fn range(offset: u64, length: u64) -> ByteRange {
    ByteRange::new(ByteLen::new(offset), ByteLen::new(length)).unwrap()
}

/// A function in another driver's hands until dropped.
#[derive(Debug)]
pub struct Rebound {
    address: PciAddress,
    driver: &'static str,
    before: &'static str,
}

impl Rebound {
    /// Takes it from the driver `before` and gives it to `driver`.
    pub fn to(address: PciAddress, before: &'static str, driver: &'static str) -> Self {
        let rebound = Self { address, driver, before };
        rebound.bind(before, driver).unwrap();
        rebound
    }

    fn bind(&self, from: &str, to: &str) -> std::io::Result<()> {
        let address = self.address.to_string();
        fs::write(format!("/sys/bus/pci/devices/{address}/driver_override"), format!("{to}\n"))?;
        fs::write(format!("/sys/bus/pci/drivers/{from}/unbind"), &address)?;
        fs::write("/sys/bus/pci/drivers_probe", &address)
    }
}

impl Drop for Rebound {
    fn drop(&mut self) {
        if let Err(error) = self.bind(self.driver, self.before) {
            eprintln!("{} isn't back with {}: {error}", self.address, self.before);
        }
    }
}
