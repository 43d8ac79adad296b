//! Each *no* by its own code.

use peermem_proto::{ByteLen, Direction, DmaAddr, Extent, Refusal, address::Iova, call::Map};
use peermem_scenarios::{
    daemon::refusal,
    drive::Drive,
    owned::{Owner, engine, lease, request},
    vfio::{EDU, Rebound, address_of},
};

fn at(iova: u64) -> DmaAddr {
    DmaAddr { initiator: engine(), iova: Iova::new(iova) }
}

#[test]
fn addresses_that_cannot_be_are_refused_and_nothing_is_lost() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let ask = |iova| refusal(client.map(&request("gpu", Direction::Read).at(at(iova))));
    for reserved in [0, 0xfee0_0000, 1 << 28] {
        assert!(matches!(ask(reserved), Refusal::AddressReserved { .. }), "{reserved:#x}");
    }
    assert!(matches!(ask(8), Refusal::NotAligned { .. }));
    let first = client.map(&request("fpga", Direction::Read).at(at(0x10_0000))).unwrap();
    let overlap = ask(0x10_1000);
    assert!(matches!(overlap, Refusal::AddressTaken { taken, .. } if taken.get() == 0x10_0000), "{overlap}");
    drop(first);
    // The engine emits 28 bits: three times the GPU's memory is more than fits beside the rest.
    let most = |bytes| {
        Map::new("gpu".parse().unwrap(), Extent::Size(ByteLen::new(bytes)), [engine()], Direction::Read)
    };
    owner.until_free("gpu");
    let whole = client.map(&most(64 << 20)).unwrap();
    let full = refusal(client.map(&most(4096)));
    assert!(matches!(full, Refusal::NotEnoughSpace { .. }), "{full}");
    drop(whole);
    owner.until_free("gpu");
    owner.until_free("fpga");
}

#[test]
fn what_cannot_be_an_initiator_is_refused_by_name() {
    let [c, d] = ["c", "d"].map(|name| Drive::named(name).address);
    let _c = Rebound::to(c, "nvme", "vfio-pci");
    let _d = Rebound::to(d, "nvme", "vfio-pci");
    let edu = address_of(EDU);
    let owner = Owner::start_with(&format!(
        "[[vfio.initiator]]\ndevice = \"{c}\"\n[[vfio.bar]]\ndevice = \"{d}\"\nbar = 0\nname = \"registers\"\n"
    ));
    let client = owner.daemon.client();
    let for_drive = |address| {
        let initiator = peermem_proto::Initiator::Vfio(address);
        client.map(&Map::new(
            "fpga".parse().unwrap(),
            Extent::Size(ByteLen::new(4096)),
            [initiator],
            Direction::Read,
        ))
    };
    let shared = refusal(for_drive(c));
    assert!(matches!(&shared, Refusal::SharedGroup { others, .. } if *others == [d]), "{shared}");
    let unnamed = refusal(for_drive(d));
    assert!(matches!(unnamed, Refusal::InitiatorNotServed { .. }), "{unnamed}");
    let registers = refusal(client.map(&request("registers", Direction::Read)));
    assert!(matches!(registers, Refusal::RegisterBar { .. }), "{registers}");
    let stray = refusal(client.map(&request("fpga", Direction::Read).driving(c)));
    assert!(matches!(stray, Refusal::InitiatorNotServed { .. }), "{stray}");

    let lease = lease(&client, "fpga");
    let passed_on = lease.delegate();
    assert!(matches!(refusal(passed_on), Refusal::InitiatorTaken { .. }));
    assert_eq!(engine(), peermem_proto::Initiator::Vfio(edu));
}
