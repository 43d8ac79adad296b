//! What a self-test found decides what may be mapped.

use peermem_proto::{
    ByteLen, DeviceFinding, Direction, Extent, Initiator, Method, OnDemandFinding, PciAddress, ProviderKind,
    Refusal, Route, Shape, Sharing,
    call::{Map, ReportDevice, ReportPair},
};
use peermemd::core::{Answer, Effect, Input, NoRoute, RegionSpec, Routes, SessionId, Ticket};

use crate::support::{Core, client, default_policy, pool};

/// The kernel accepts every pair.
struct Open;

impl Routes for Open {
    fn route(&self, _: Option<PciAddress>, _: &Initiator) -> Result<Route, NoRoute> {
        Ok(Route::BusAddress { acs_checked: true })
    }
}

const ROOT: SessionId = SessionId(1);
const USER: SessionId = SessionId(2);

fn device() -> PciAddress {
    "0000:01:00.0".parse().unwrap()
}

/// With a pool of on-demand memory, a window of dma-buf memory, root and a user.
fn broker() -> Core<Open> {
    let mut core = Core::over(Open, default_policy());
    for (name, shape, method) in
        [("cmb", Shape::Pool, Method::OnDemand), ("gpu", Shape::Window, Method::Dmabuf)]
    {
        let (provider, device, sharing) = (ProviderKind::P2pmem, Some(device()), Sharing::Everyone);
        let spec = RegionSpec { shape, method, provider, device, sharing, ..pool(name, 256) };
        core.step(Input::RegionFound(spec));
    }
    for (session, uid) in [(ROOT, 0), (USER, 1000)] {
        core.step(Input::Connected(session, client(uid, 1)));
    }
    core
}

/// Maps for the user: what was found of the initiator, or why not.
fn map(core: &mut Core<Open>, region: &str, initiator: &str) -> Result<Option<DeviceFinding>, Refusal> {
    let size = Extent::Size(ByteLen::new(4096));
    let request = Map::new(region.parse().unwrap(), size, [initiator.parse().unwrap()], Direction::Read);
    core.map(USER, request).map(|lease| lease.paths[0].found.clone())
}

fn report(broker: &mut Core<Open>, session: SessionId, on_demand: OnDemandFinding, dmabuf: bool) -> bool {
    let report = ReportDevice { device: "rxe0".parse().unwrap(), found: DeviceFinding { on_demand, dmabuf } };
    let effects = broker.step(Input::DeviceTested(session, Ticket(2), report));
    effects == [Effect::Answer(Ticket(2), Ok(Answer::Done))]
}

fn lost(broker: &mut Core<Open>, wrong: Option<&str>) {
    let initiator = "pci:0000:02:00.0".parse().unwrap();
    let report = ReportPair { provider: device(), initiator, wrong: wrong.map(str::to_owned) };
    broker.step(Input::PairTested(ROOT, Ticket(3), report));
}

#[test]
fn a_mapping_carries_what_was_found_of_its_device() {
    let mut broker = broker();
    assert_eq!(map(&mut broker, "cmb", "rdma:rxe0"), Ok(None));
    let on_demand = OnDemandFinding::PageAlignedOnly { min_path_mtu: 4096 };
    assert!(report(&mut broker, ROOT, on_demand.clone(), true));
    let found = Some(DeviceFinding { on_demand, dmabuf: true });
    assert_eq!(map(&mut broker, "cmb", "rdma:rxe0"), Ok(found));
    assert_eq!(map(&mut broker, "cmb", "rdma:mlx5_0"), Ok(None), "that one wasn't tested");
}

#[test]
fn memory_that_can_not_become_a_region_is_refused_with_the_reason() {
    let mut broker = broker();
    assert!(report(&mut broker, ROOT, OnDemandFinding::Unsupported {}, false));
    let refusal = map(&mut broker, "cmb", "rdma:rxe0").unwrap_err();
    assert!(matches!(&refusal, Refusal::NoMethod { method: Method::OnDemand, .. }), "{refusal}");
    assert!(refusal.to_string().contains("no on-demand paging"), "{refusal}");
    let refusal = map(&mut broker, "gpu", "rdma:rxe0").unwrap_err();
    assert!(matches!(refusal, Refusal::NoMethod { method: Method::Dmabuf, .. }), "{refusal}");

    let broken = OnDemandFinding::Broken { finding: "a write of 8 bytes".to_owned() };
    assert!(report(&mut broker, ROOT, broken, true));
    let refusal = map(&mut broker, "cmb", "rdma:rxe0").unwrap_err();
    assert!(refusal.to_string().contains("a write of 8 bytes"), "{refusal}");
    assert!(map(&mut broker, "gpu", "rdma:rxe0").is_ok(), "dma-bufs don't page");
}

#[test]
fn a_pair_that_loses_bytes_is_refused_until_it_is_tested_again() {
    let mut broker = broker();
    lost(&mut broker, Some("no byte of 65536 arrived"));
    let refusal = map(&mut broker, "cmb", "pci:0000:02:00.0").unwrap_err();
    assert!(refusal.to_string().contains("no byte of 65536 arrived"), "{refusal}");
    assert!(map(&mut broker, "cmb", "pci:0000:03:00.0").is_ok(), "another device's fault");
    lost(&mut broker, None);
    assert!(map(&mut broker, "cmb", "pci:0000:02:00.0").is_ok());
}

#[test]
fn only_root_reports() {
    let mut broker = broker();
    assert!(!report(&mut broker, USER, OnDemandFinding::Unsupported {}, false));
    assert!(map(&mut broker, "cmb", "rdma:rxe0").is_ok(), "a user shut the others out");
}
