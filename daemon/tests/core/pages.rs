//! A page of a list fits into one message, whatever stands in it.

use peermem_proto::{
    ByteLen, DeviceFinding, Direction, Extent, Initiator, LeaseId, LeaseState, Method, OnDemandFinding,
    PciAddress, ProviderKind, Route, Sharing,
    call::{MOST_INITIATORS, Map, ReportDevice},
    varlink::encode_reply,
};
use peermem_wire::MAX_MESSAGE;
use peermemd::core::{Input, NoRoute, RegionSpec, Routes, Ticket};

use crate::support::{Core, client, default_policy, window};

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
    let mut core = Core::over(Detours, default_policy());
    let region = "r".repeat(64);
    core.step(Input::RegionFound(RegionSpec {
        provider: ProviderKind::P2pmem,
        device: Some("10000:00:00.0".parse().unwrap()),
        method: Method::Dmabuf,
        size: ByteLen::new(1 << 40),
        sharing: Sharing::Everyone,
        ..window(&region, 1)
    }));
    let session = core.connect(client(0, u32::MAX));
    let devices: Vec<_> = (0..MOST_INITIATORS).map(|i| format!("{i}{}", "d".repeat(62))).collect();
    for device in &devices {
        let on_demand = OnDemandFinding::Broken { finding: "f".repeat(20_000) };
        let found = DeviceFinding { on_demand, dmabuf: true };
        let report = ReportDevice { device: device.parse().unwrap(), found };
        core.step(Input::DeviceTested(session, Ticket(1), report));
    }
    let initiators: Vec<Initiator> =
        devices.iter().map(|device| format!("rdma:{device}").parse().unwrap()).collect();
    for _ in 0..100 {
        let whole =
            Map::new(region.parse().unwrap(), Extent::Whole, initiators.clone(), Direction::Bidirectional);
        let lease = core.map(session, whole.for_secs(u64::from(u32::MAX))).unwrap().id;
        core.answer(|ticket| Input::Revoke(session, ticket, lease)).unwrap();
        assert!(matches!(core.lease(lease).unwrap().state, LeaseState::Revoked { .. }));
    }

    let (mut listed, mut after): (Vec<LeaseId>, Option<LeaseId>) = (Vec::new(), None);
    loop {
        let page = core.broker.list_leases(after);
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
