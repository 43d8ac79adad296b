//! Profile `iommufd`: VFIO has a file for each function and one for the IOMMU's user API, beside groups and containers.

use std::{fs, path::Path};

use peermem_scenarios::vfio::{EDU, FPGA, GPU, address_of};

#[test]
fn every_function_has_a_file_of_its_own_and_a_group_as_well() {
    for file in ["/dev/iommu", "/dev/vfio/vfio"] {
        assert!(Path::new(file).exists(), "{file}");
    }
    for address in [GPU.0, FPGA.0, EDU].map(address_of) {
        let device = Path::new("/sys/bus/pci/devices").join(address.to_string());
        let names: Vec<_> =
            fs::read_dir(device.join("vfio-dev")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "{address}: {names:?}");
        assert!(Path::new("/dev/vfio/devices").join(&names[0]).exists(), "{address}: {names:?}");
        let group = fs::read_link(device.join("iommu_group")).unwrap();
        assert!(Path::new("/dev/vfio").join(group.file_name().unwrap()).exists(), "{address}: {group:?}");
    }
}
