//! A page of a list fits into one message, whatever stands in it.
#![allow(clippy::unwrap_used)]

use peermem_proto::{
    ByteLen, DeviceFinding, Direction, Extent, Initiator, LeaseId, Method, OnDemandFinding, Owner,
    PciAddress, ProviderKind, Revocation, Route, Shape, Sharing,
    call::{MOST_INITIATORS, Map, ReportDevice},
    varlink::encode_reply,
};
use peermem_wire::MAX_MESSAGE;
use peermemd::core::{Broker, Effect, Input, Limits, NoRoute, RegionSpec, Routes, SessionId, Ticket};

/// Every way is a long one.
struct Detours;

impl Routes for Detours {
    fn route(&self, _: Option<PciAddress>, _: &Initiator) -> Result<Route, NoRoute> {
        let redirected_by = vec!["10000:00:00.0".parse().unwrap(); 8];
        Ok(Route::HostBridge { bridge: "10000:00 and 10000:80".to_owned(), redirected_by })
    }
}

#[test]
fn a_page_of_the_longest_leases_fits_into_a_message() {
    let mut broker = Broker::new(Detours, Limits { leases_per_user: 1000, regions_per_connection: 1 });
    let region = "r".repeat(64);
    broker.step(Input::RegionFound(RegionSpec {
        name: region.parse().unwrap(),
        provider: ProviderKind::P2pmem,
        device: Some("10000:00:00.0".parse().unwrap()),
        shape: Shape::Window,
        size: ByteLen::new(1 << 40),
        alignment: ByteLen::new(4096),
        method: Method::Dmabuf,
        revocation: Revocation::Advisory,
        sharing: Sharing::Everyone,
    }));
    let session = SessionId(1);
    broker.step(Input::Connected(session, Owner { uid: 0, gid: 0, pid: u32::MAX }));
    let devices: Vec<_> = (0..MOST_INITIATORS).map(|i| format!("{i}{}", "d".repeat(62))).collect();
    for device in &devices {
        let on_demand = OnDemandFinding::Broken { finding: "f".repeat(20_000) };
        let found = DeviceFinding { on_demand, dmabuf: true };
        let report = ReportDevice { device: device.parse().unwrap(), found };
        broker.step(Input::DeviceTested(session, Ticket(1), report));
    }
    let initiators: Vec<Initiator> =
        devices.iter().map(|device| format!("rdma:{device}").parse().unwrap()).collect();
    for _ in 0..100 {
        let whole =
            Map::new(region.parse().unwrap(), Extent::Whole, initiators.clone(), Direction::Bidirectional);
        let [Effect::Carve { lease, .. }] = broker.step(Input::Map(session, Ticket(2), whole))[..] else {
            panic!("refused")
        };
        broker.step(Input::Carved(lease, Ok(())));
    }

    let (mut listed, mut after): (Vec<LeaseId>, Option<LeaseId>) = (Vec::new(), None);
    loop {
        let page = broker.list_leases(after);
        let length = encode_reply(&page, false).unwrap().len();
        assert!(length <= MAX_MESSAGE, "{} leases take {length} bytes", page.leases.len());
        listed.extend(page.leases.iter().map(|lease| lease.id));
        after = listed.last().copied();
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, (1..=100).map(LeaseId::new).collect::<Vec<_>>());
}
