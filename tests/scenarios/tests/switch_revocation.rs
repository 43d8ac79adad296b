//! Rights that are taken back: profile `switch`, as root, one test at a time, with the preload library that gives soft-RoCE
//! dma-buf registration.
#![allow(clippy::unwrap_used)]

use peermem::{
    Client, RegistrationError,
    rdma::{EndpointConfig, Operation, TransferError},
    verbs::{Access, WorkError, WorkStatus},
};
use peermem_proto::{
    ByteLen, Event, Lease, LeaseEnd, LeaseId, LeaseState, Method, Refusal, Revocation, Revoked, Sharing,
    call::Map,
};
use peermem_scenarios::{
    command::{json, run, succeed, varlink_call},
    daemon::{Config, Daemon, UNIT, refusal},
    drive::Drive,
    events::Events,
    leased::{Leased, request, request_whole, rxe},
    peers::{Peers, Side},
    role::{Role, say, until_let_go},
    user::User,
    vram,
    wait::until_seen,
};
use peermem_testgpu::TestGpu;

const SIZE: ByteLen = ByteLen::new(1 << 20);

/// Clients have a second to let go.
const CONFIG: &str = "[leases]\nrevoke_grace_secs = 1\n[registered]\nexporters = [\"peermem_testgpu\"]\n";

/// A lease with a connection over which bytes move into it and out of it.
struct Rig {
    client: Client,
    events: Events,
    peers: Peers,
    leased: Leased,
    near: Side,
}

impl Rig {
    fn new(daemon: &Daemon, request: &Map) -> Self {
        let (client, peers) = (daemon.client(), Peers::connect(&EndpointConfig::default()));
        // Before there is a lease: it may end soon.
        let events = Events::of(&client);
        let leased = Leased::new(&client, &peers.pd, request);
        let near = Side::host(&peers.pd, SIZE, Method::Pinned);
        Self { events, client, peers, leased, near }
    }

    fn id(&self) -> LeaseId {
        self.leased.lease.info().id
    }

    fn moves_bytes(&mut self) {
        for operation in [Operation::Write, Operation::Read] {
            self.peers.check(operation, (&self.near, 0), (&self.leased.side, 0), SIZE.get()).unwrap();
        }
    }

    /// What every revocation comes to, whoever asked for it.
    fn ends_by_letting_go(mut self, daemon: &Daemon, expected: Revoked) {
        let id = self.id();
        assert_eq!(self.events.revocation_of(id), expected);
        // The right has ended. The memory is there until the client lets go.
        self.moves_bytes();
        self.events.find("the lease is overdue", |event| match event {
            Event::LeaseOverdue { lease } if lease.id == id => Some(()),
            _ => None,
        });
        let status = self.client.status().unwrap();
        assert_eq!((status.leases, status.overdue), (1, 1));
        let listed = self.client.leases().unwrap();
        assert!(
            matches!(&listed[..], [Lease { state: LeaseState::Revoked { reason, overdue: true, .. }, .. }]
                if *reason == expected),
            "{listed:?}"
        );
        self.moves_bytes();
        let Self { client, mut events, leased: Leased { side, lease }, peers, .. } = self;
        drop((side, peers));
        lease.unmap().unwrap();
        assert_eq!(events.end_of(id), LeaseEnd::Revoked);
        let status = client.status().unwrap();
        assert_eq!((status.leases, status.overdue), (0, 0));
        daemon.waits_for_all_of(&Drive::named("b"));
    }
}

fn of_drive() -> Map {
    request(Drive::named("b").region(), SIZE, &[rxe()])
}

/// As an administrator with systemd's varlink client.
fn revoke(lease: LeaseId) -> serde_json::Value {
    let parameters = format!("{{\"lease\":{lease}}}");
    json(&succeed(&mut varlink_call("io.peermem.Broker.Revoke", &parameters)))
}

#[test]
fn an_administrator_revokes_and_bytes_move_until_the_client_lets_go() {
    let daemon = Daemon::start_with(Some(CONFIG));
    let mut rig = Rig::new(&daemon, &of_drive());
    rig.moves_bytes();
    let answer = revoke(rig.id());
    assert_eq!(answer["revocation"], "advisory");
    rig.ends_by_letting_go(&daemon, Revoked::Administrator);
}

#[test]
fn a_lease_expires_and_is_overdue_where_its_client_goes_on() {
    let daemon = Daemon::start_with(Some(CONFIG));
    Rig::new(&daemon, &of_drive().for_secs(1)).ends_by_letting_go(&daemon, Revoked::Expired);
}

#[test]
fn the_owner_of_a_registered_buffer_revokes_what_others_have_of_it() {
    let daemon = Daemon::start_with(Some(CONFIG));
    let [owner, stranger] = [daemon.client(), daemon.client()];
    let region = vram::register(&owner, vram::allocate(SIZE), Sharing::Everyone).unwrap();
    let rig = Rig::new(&daemon, &request_whole(vram::name(), &[rxe()]));
    let answer = owner.revoke(rig.id()).unwrap();
    assert_eq!(answer.revocation, Revocation::Advisory);
    // It is revoked already, and stays so for the first reason.
    stranger.revoke(rig.id()).unwrap();
    rig.ends_by_letting_go(&daemon, Revoked::RegionOwner);
    region.unregister().unwrap();
}

#[test]
fn a_policy_that_is_read_again_takes_back_what_it_no_longer_allows() {
    let rule = |initiators: &str| {
        format!(
            "{CONFIG}[[policy.rule]]\nname = \"alice\"\nusers = [\"alice\"]\ninitiators = [\"{initiators}\"]\nallow = [\"map\"]\n"
        )
    };
    let alice = User::add_member("alice");
    let daemon = Daemon::start_with(Some(&rule("*")));
    let (client, drive) = (daemon.client(), Drive::named("b"));
    let mut events = Events::of(&client);
    let role = Role::start("role_of_one_who_lets_go_in_time", Some(&alice));
    let [for_network, for_drive]: [LeaseId; 2] = role.hear();
    let _config = Config::put(Some(&rule("pci:*")));
    run(&format!("systemctl reload {UNIT}"));
    assert_eq!(events.revocation_of(for_network), Revoked::Policy);
    role.let_go();
    assert_eq!(events.end_of(for_network), LeaseEnd::Revoked);
    // What the new policy allows was left alone.
    assert_eq!(events.end_of(for_drive), LeaseEnd::Unmapped);
    daemon.waits_for_all_of(&drive);
}

#[test]
#[ignore = "the client in another scenario"]
fn role_of_one_who_lets_go_in_time() {
    let [a, b] = ["a", "b"].map(Drive::named);
    let client = Client::connect().unwrap();
    let leases =
        [rxe(), a.initiator()].map(|device| client.map(&request(b.region(), SIZE, &[device])).unwrap());
    leases.iter().for_each(|lease| drop(lease.mapping().unwrap()));
    say(&leases.each_ref().map(|lease| lease.info().id));
    until_let_go();
    leases.into_iter().for_each(|lease| lease.unmap().unwrap());
}

#[test]
fn a_gpu_that_resets_fails_transfers_with_their_reason_and_leaves_nothing_behind() {
    let daemon = Daemon::start_with(Some(CONFIG));
    let (owner, client) = (daemon.client(), daemon.client());
    let mut events = Events::of(&client);
    let in_use = || (vram::info().buffers, vram::info().memory_regions, daemon.descriptors().len());
    let before = in_use();
    let region = vram::register(&owner, vram::allocate(SIZE), Sharing::Everyone).unwrap();
    let mut peers = Peers::connect(&EndpointConfig::default());
    let leased = Leased::new(&client, &peers.pd, &request_whole(vram::name(), &[rxe()]));
    let near = Side::host(&peers.pd, SIZE, Method::Pinned);
    peers.check(Operation::Write, (&near, 0), (&leased.side, 0), SIZE.get()).unwrap();

    TestGpu::open().unwrap().reset().unwrap();
    let remote = peers.far.describe(&leased.side.whole()).unwrap();
    let error = peers.transfer(Operation::Write, &near.whole(), &remote, 0).unwrap_err();
    assert!(
        matches!(
            error,
            TransferError::Work { source: WorkError { status: WorkStatus::REMOTE_ACCESS, .. }, .. }
        ),
        "{error:?}"
    );
    // The daemon has the same dma-buf as ever, and no way to see that it is dead. Whoever uses it sees.
    let again = client.map(&request_whole(vram::name(), &[rxe()])).unwrap();
    let error = again.register(&peers.pd, Access::LOCAL_WRITE).unwrap_err();
    assert!(matches!(error, RegistrationError::Device(_)), "{error:?}");

    region.unregister().unwrap();
    for lease in [&leased.lease, &again] {
        assert_eq!(events.end_of(lease.info().id), LeaseEnd::RegionGone);
    }
    events.find("the region has gone", |event| {
        matches!(event, Event::RegionGone { name } if name == vram::name()).then_some(())
    });
    let gone = refusal(client.map(&request_whole(vram::name(), &[rxe()])));
    assert_eq!(gone, Refusal::UnknownRegion { region: vram::name() });
    drop((leased, again, peers, near));
    until_seen(&format!("everything is closed, as {before:?}"), in_use, |(buffers, regions, open)| {
        (*buffers, *regions) == (before.0, before.1) && *open <= before.2
    });
}
