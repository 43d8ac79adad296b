//! What can't be mapped or served is refused by its own name.

use peermem_proto::{ByteLen, Direction, DmaAddr, address::Iova};
use peermem_scenarios::{
    edu::Edu,
    vfio::{EDU, FPGA, GPU, address_of, bar, served, snapshot, taking},
};
use peermemd::{
    mapper::{MapError, Place, UnmapError},
    provider::vfio::{VfioError, VfioProvider},
};

/// The GPU's memory, all of it.
const WHOLE: ByteLen = ByteLen::new(64 << 20);

#[test]
fn a_mapping_that_cannot_be_says_why() {
    let mut gpu = served(GPU);
    let window = gpu.carve(GPU.1, WHOLE, WHOLE).unwrap();
    let memory = gpu.mappable(GPU.1, window.range).unwrap();
    let mut edu = Edu::open();
    let mut map = |place| edu.initiator.map(memory.clone(), Direction::Read, place);
    let at = |iova| Place::At(Iova::new(iova));

    for unreachable in [0, 1 << 28, 0xfee0_0000] {
        let refused = map(at(unreachable)).unwrap_err();
        assert!(matches!(refused, MapError::Unreachable { .. }), "{unreachable:#x}: {refused}");
    }
    let taken = map(at(0x10_0000)).unwrap();
    let overlap = map(at(0x10_1000)).unwrap_err();
    assert!(matches!(overlap, MapError::Overlap { taken, .. } if taken.get() == 0x10_0000), "{overlap}");
    assert!(matches!(map(at(8)), Err(MapError::NotAligned { what: "IOVA", .. })));
    // The engine's 256 MiB of addresses have room for two more.
    let mut held = vec![taken.clone()];
    let used_up = loop {
        match map(Place::Anywhere) {
            Ok(address) => held.push(address),
            Err(refused) => break refused,
        }
    };
    assert_eq!(held.len(), 3);
    assert!(matches!(used_up, MapError::AddressesUsedUp { .. }), "{used_up}");

    let elsewhere = DmaAddr { initiator: "vfio:0000:00:00.0".parse().unwrap(), iova: taken.iova };
    assert!(matches!(edu.initiator.unmap(&elsewhere), Err(UnmapError::OtherInitiator { .. })));
    for address in &held {
        edu.initiator.unmap(address).unwrap();
    }
    assert_eq!(edu.initiator.mappings().count(), 0);
}

#[test]
fn a_bar_that_is_no_memory_is_not_served() {
    let open = |id, index| {
        VfioProvider::open(&snapshot(), address_of(id), &[bar(index)].into(), taking()).unwrap_err()
    };
    for (id, index) in [(GPU.0, 2), (FPGA.0, 0), (EDU, 0)] {
        let refused = open(id, index);
        assert!(matches!(refused, VfioError::Registers { .. }), "{id}: {refused}");
    }
    let missing = open(FPGA.0, 1).to_string();
    assert!(missing.contains("no memory at BAR 1: it has BAR 0, BAR 2"), "{missing}");
}
