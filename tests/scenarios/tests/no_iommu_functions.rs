//! Profile `no-iommu`: functions that no IOMMU translates for are taken by name, at bus addresses, and nothing is promised of them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use peermem::rdma::pattern;
use peermem_proto::{Direction, DmaAddr, PciAddress, Refusal, Revocation, Route, address::Iova};
use peermem_scenarios::{
    command::run,
    daemon::{Journal, UNIT, refusal},
    owned::{LENGTH, Owner, copies_both_ways, engine, lease, lease_and_drive, request},
    peers::CpuAccess as _,
    vfio::{EDU, FPGA, GPU, address_of},
    wait::until,
};

const BYTES: usize = 16 << 10;
const DROP_IN: &str = "/run/systemd/system/peermemd.service.d/no-iommu.conf";

/// The capability that the kernel asks for, as an administrator would give it, until dropped.
struct RawIo;

impl RawIo {
    fn given() -> Self {
        let path = PathBuf::from(DROP_IN);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = "[Service]\nAmbientCapabilities=CAP_SYS_RAWIO\nCapabilityBoundingSet=CAP_SYS_RAWIO\n";
        fs::write(path, text).unwrap();
        run("systemctl daemon-reload");
        Self
    }
}

impl Drop for RawIo {
    fn drop(&mut self) {
        fs::remove_file(DROP_IN).unwrap();
        run("systemctl daemon-reload");
    }
}

/// The config's word for these functions.
fn named(devices: &[PciAddress]) -> String {
    let devices: Vec<_> =
        devices.iter().map(|device| format!("{device:?}", device = device.to_string())).collect();
    format!("[vfio]\nno_iommu = [{}]\n", devices.join(", "))
}

/// The daemon with all three functions.
fn owner() -> Owner {
    let owner = Owner::begin(64, &named(&[GPU.0, FPGA.0, EDU].map(address_of)));
    owner.until_free("gpu");
    owner.until_free("fpga");
    owner
}

#[test]
fn what_is_not_named_is_refused_with_the_words_to_put_there() {
    let _raw_io = RawIo::given();
    let owner = Owner::begin(64, &named(&[GPU.0, FPGA.0].map(address_of)));
    owner.until_free("fpga");
    let refused = refusal(owner.daemon.client().map(&request("fpga", Direction::Bidirectional)));
    let Refusal::NoIommu { initiator, why } = refused else { panic!("{refused}") };
    assert_eq!(initiator, engine());
    assert!(why.contains("all memory of this machine"), "{why}");
    assert!(why.contains(&format!("`no_iommu = [\"{}\"]`", address_of(EDU))), "{why}");
}

#[test]
fn without_the_capability_the_log_says_which() {
    let journal = Journal::begin();
    let _owner = Owner::begin(64, &named(&[GPU.0, FPGA.0, EDU].map(address_of)));
    until("the log names the capability", || {
        let entries = journal.entries();
        let mut words = entries.iter().filter_map(|entry| entry["MESSAGE"].as_str());
        words.any(|words| words.contains("CAP_SYS_RAWIO")).then_some(())
    });
}

#[test]
fn the_daemon_keeps_that_capability_and_no_other() {
    const CAP_SYS_RAWIO: u64 = 1 << 17;
    let _raw_io = RawIo::given();
    let owner = owner();
    let status = fs::read_to_string(format!("/proc/{}/status", owner.daemon.pid())).unwrap();
    for set in ["CapPrm:", "CapEff:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), CAP_SYS_RAWIO, "{set}");
    }
}

#[test]
fn a_client_moves_bytes_from_gpu_to_fpga_and_back_by_bus_addresses() {
    let _raw_io = RawIo::given();
    let owner = owner();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let fpga = lease(&client, "fpga");
    for lease in [&gpu, &fpga] {
        assert!(matches!(lease.info().paths[0].route, Route::BusAddress { .. }), "{:?}", lease.info());
        assert_eq!(lease.info().revocation, Revocation::Advisory, "nothing keeps the engine from it");
    }
    // On x86 the CPU sees the bus as it is.
    let start = fs::read_to_string(format!("/sys/bus/pci/devices/{}/resource", address_of(FPGA.0))).unwrap();
    let start = start.lines().nth(2).unwrap().split(' ').next().unwrap().trim_start_matches("0x");
    let start = u64::from_str_radix(start, 16).unwrap();
    let to = fpga.address_for(&engine()).unwrap();
    assert_eq!(to.iova.get(), start + fpga.info().offset.get());

    copies_both_ways(&owner, &edu, &gpu, &fpga);
}

#[test]
fn what_no_iommu_can_do_is_refused() {
    let _raw_io = RawIo::given();
    let owner = owner();
    let client = owner.daemon.client();
    for direction in [Direction::Read, Direction::Write] {
        let refused = refusal(client.map(&request("fpga", direction)));
        assert!(
            matches!(&refused, Refusal::NoIommu { why, .. } if why.contains("both directions")),
            "{refused}"
        );
    }
    let elsewhere = DmaAddr { initiator: engine(), iova: Iova::new(0x10_0000) };
    let refused = refusal(client.map(&request("fpga", Direction::Bidirectional).at(elsewhere)));
    assert!(matches!(&refused, Refusal::NoIommu { why, .. } if why.contains("not at 0x100000")), "{refused}");
    // Nothing was lent meanwhile.
    owner.until_free("fpga");
    let lease = lease(&client, "fpga");
    let there = lease.address_for(&engine()).unwrap();
    drop(lease);
    owner.until_free("fpga");
    let again = client.map(&request("fpga", Direction::Bidirectional).at(there.clone())).unwrap();
    assert_eq!(again.address_for(&engine()), Some(there), "the one address that there is may be asked for");
}

#[test]
fn a_mapping_outlives_a_restart() {
    let _raw_io = RawIo::given();
    let owner = owner();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let fpga = lease(&client, "fpga");
    let before = [&gpu, &fpga].map(|lease| lease.address_for(&engine()).unwrap());
    let bytes = pattern::bytes(3, BYTES);
    owner.look_at(GPU, &gpu).put(0, &bytes);
    run(&format!("systemctl restart {UNIT}"));
    until("the leases are resumed", || {
        client.leases().unwrap().iter().all(|lease| !lease.waiting).then_some(())
    });
    assert!(!gpu.is_lost() && !fpga.is_lost());
    edu.copy(&before[0], &before[1], LENGTH);
    assert_eq!(pattern::difference(&owner.look_at(FPGA, &fpga).all(), &bytes), None);
    fpga.unmap().unwrap();
    owner.until_free("fpga");
}
