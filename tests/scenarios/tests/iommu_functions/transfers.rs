//! A client that has everything from the daemon moves bytes between two devices.

use peermem::rdma::pattern;
use peermem_proto::{Direction, DmaAddr, Route, address::Iova};
use peermem_scenarios::{
    command::{json, peermemctl, succeed},
    faults,
    owned::{LENGTH, Owner, copies_both_ways, engine, lease, lease_and_drive, request},
    peers::CpuAccess as _,
    vfio::{FPGA, GPU},
};

const BYTES: usize = 16 << 10;

#[test]
fn a_client_moves_bytes_from_gpu_to_fpga_and_back() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let fpga = lease(&client, "fpga");
    assert_eq!(fpga.info().paths[0].route, Route::Iommu {});
    let mapped = format!("peermem_initiator_mappings{{initiator=\"{}\"}}", engine());
    assert_eq!(owner.daemon.metric(&mapped), Some(2.0));
    let largest = owner.daemon.metric("peermem_region_largest_free_bytes{provider=\"vfio\",region=\"fpga\"}");
    assert_eq!(largest, Some(((16 << 20) - BYTES) as f64));
    let [from, to] = [&gpu, &fpga].map(|lease| lease.address_for(&engine()).unwrap());
    let fpga_bytes = owner.look_at(FPGA, &fpga);

    copies_both_ways(&owner, &edu, &gpu, &fpga);
    let untouched = pattern::bytes(3, BYTES);
    fpga_bytes.put(0, &untouched);
    fpga.unmap().unwrap();
    faults::expect(to.iova, LENGTH, || edu.copy(&from, &to, LENGTH));
    drop(gpu);
    owner.until_free("gpu");
    // What came back was zeroed; what the engine sent after the end of the lease never arrived.
    owner.until_free("fpga");
    assert_eq!(pattern::difference(&fpga_bytes.all(), &[0; BYTES]), None);
}

#[test]
fn a_transfer_after_unmap_changes_no_byte() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let fpga = client.map(&request("fpga", Direction::Write)).unwrap();
    let [from, to] = [&gpu, &fpga].map(|lease| lease.address_for(&engine()).unwrap());
    owner.look_at(GPU, &gpu).put(0, &pattern::bytes(4, BYTES));
    edu.copy(&from, &to, LENGTH);
    let seen = owner.look_at(FPGA, &fpga);
    let untouched = pattern::bytes(5, BYTES);
    // The client's copy of the dma-buf keeps the window from being cleared.
    let kept = fpga.memory().try_clone_to_owned().unwrap();
    fpga.unmap().unwrap();
    seen.put(0, &untouched);
    faults::expect(to.iova, LENGTH, || edu.copy(&from, &to, LENGTH));
    assert_eq!(pattern::difference(&seen.all(), &untouched), None);
    drop(kept);
    owner.until_free("fpga");
}

#[test]
fn a_read_only_mapping_is_not_written() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let at = DmaAddr { initiator: engine(), iova: Iova::new(0x70_0000) };
    let fpga = client.map(&request("fpga", Direction::Read).at(at.clone())).unwrap();
    assert_eq!(fpga.address_for(&engine()), Some(at.clone()), "where it was asked for");
    let seen = owner.look_at(FPGA, &fpga);
    let readable = pattern::bytes(6, BYTES);
    seen.put(0, &readable);
    let gpu_at = gpu.address_for(&engine()).unwrap();
    faults::expect(at.iova, LENGTH, || edu.copy(&gpu_at, &at, LENGTH));
    assert_eq!(pattern::difference(&seen.all(), &readable), None);
    edu.copy(&at, &gpu_at, LENGTH);
    assert_eq!(pattern::difference(&owner.look_at(GPU, &gpu).all(), &readable), None);
}

#[test]
fn peermemctl_prints_the_address() {
    let _owner = Owner::start();
    let line = format!("map fpga --size 64KiB --initiator {} --iova 0x800000 --drive --for 0", engine());
    let said = json(&succeed(&mut peermemctl(&line)));
    assert_eq!(said["paths"][0]["dma"]["iova"], "0x800000", "{said}");
    assert_eq!(said["paths"][0]["route"]["kind"], "iommu");
}
