//! Profile `no-iommu`: VFIO's groups are of the kind that no IOMMU confines, and named so.

use std::{fs, path::Path};

use peermem_scenarios::vfio::{EDU, FPGA, GPU, address_of};

#[test]
fn every_function_is_in_a_group_without_iommu() {
    assert_eq!(fs::read_dir("/sys/class/iommu").map_or(0, Iterator::count), 0, "there is an IOMMU");
    for address in [GPU.0, FPGA.0, EDU].map(address_of) {
        let group = format!("/sys/bus/pci/devices/{address}/iommu_group");
        let group = fs::read_link(&group).unwrap_or_else(|error| panic!("{group}: {error}"));
        let file = format!("/dev/vfio/noiommu-{}", group.file_name().unwrap().to_str().unwrap());
        assert!(Path::new(&file).exists(), "{address}: {file}");
    }
}
