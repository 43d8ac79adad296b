//! Memory that its owner registers, as a GPU's: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use peermem::{Client, rdma::pattern, verbs::Memory};
use peermem_proto::{
    ByteLen, ByteRange, Direction, Event, Extent, LeaseEnd, Method, PciAddress, ProviderKind, Refusal,
    Revocation, Shape, Sharing, call::Map,
};
use peermem_scenarios::{
    command::{fail, json, peermemctl, succeed, varlink_call},
    daemon::{CONFIG, Daemon, refusal},
    drive::Drive,
    events::Events,
    host_memory::{heap, memfd, udmabuf},
    leased::{request_whole, rxe},
    peers::{CpuAccess, in_words},
    user::User,
    vram::{self, register},
    wait::until_seen,
};
use peermem_testgpu::{EXPORTER, Info};

const SIZE: ByteLen = ByteLen::new(2 << 20);

/// The test GPU with nothing in use by the daemon, which must be so again in the end. Of descriptors there may be fewer then: some may
/// have been on their way out when they were counted.
struct Machine {
    daemon: Daemon,
    descriptors: usize,
    info: Info,
}

impl Machine {
    fn start() -> Self {
        let daemon = Daemon::start();
        Self { descriptors: daemon.descriptors_at_rest().len(), daemon, info: vram::info() }
    }

    fn client(&self) -> Client {
        self.daemon.client()
    }

    /// Closed descriptors and freed buffers come without an event.
    fn is_as_before(&self) {
        let Self { daemon, descriptors, info } = self;
        let what =
            format!("the daemon has at most {descriptors} descriptors and the GPU in use what {info:?}");
        until_seen(
            &what,
            || (daemon.descriptors().len(), vram::info()),
            |(open, now)| open <= descriptors && now == info,
        );
        assert_eq!(self.daemon.dmabufs(), 0);
    }
}

#[test]
fn another_connection_maps_what_the_owner_registered() {
    let machine = Machine::start();
    let buffer = vram::allocate(SIZE);
    let owner = machine.client();
    let region = register(&owner, &buffer, Sharing::Everyone).unwrap();
    let listed = region.region();
    assert_eq!((listed.provider, listed.shape), (ProviderKind::Registered, Shape::Window));
    assert_eq!((listed.device, listed.size), (Some(vram::device()), SIZE));
    assert_eq!((listed.method, listed.revocation), (Method::Dmabuf, Revocation::Advisory));
    assert_eq!((listed.owner_uid, listed.emulated), (Some(0), false));
    assert_eq!(machine.daemon.dmabufs(), 1, "the daemon holds one descriptor of the buffer");
    assert_eq!(machine.daemon.metric("peermem_descriptors{kind=\"dmabuf\"}"), Some(1.0));
    assert_eq!(machine.daemon.metric("peermem_dmabuf_bytes"), Some(SIZE.get() as f64));

    let other = machine.client();
    let part = ByteRange::new(ByteLen::new(65536), ByteLen::new(1 << 20)).unwrap();
    let lease =
        other.map(&Map::new(vram::name(), Extent::Range(part), [rxe()], Direction::Bidirectional)).unwrap();
    assert_eq!((lease.info().method, lease.memory_offset()), (Method::Dmabuf, part.offset()));
    // The owner's view of the buffer and the lease's are one memory.
    let owners = Memory::shared(buffer.as_fd(), 0, SIZE).unwrap();
    let expected = pattern::bytes(3, owners.all().len());
    owners.put(0, &expected);
    let mapping = lease.mapping().unwrap();
    assert!(mapping.all() == expected[65536..65536 + mapping.len()]);
    mapping.put(4096, b"from the other side");
    assert_eq!(&owners.all()[65536 + 4096..][..19], b"from the other side");

    drop((mapping, owners, buffer));
    lease.unmap().unwrap();
    region.unregister().unwrap();
    drop((owner, other));
    machine.is_as_before();
}

#[test]
fn the_owner_decides_who_may_map_it() {
    let machine = Machine::start();
    let (client, buffer) = (machine.client(), vram::allocate(SIZE));
    let member = User::add_member("member");
    let mut map = member.command(&peermemctl("map vram --for 0"));
    for (sharing, allowed) in [(Sharing::Owner, false), (Sharing::Everyone, true)] {
        let _region = register(&client, &buffer, sharing).unwrap();
        if allowed {
            let lease = json(&succeed(&mut map));
            assert_eq!((&lease["method"], &lease["owner"]["uid"]), (&"dmabuf".into(), &member.uid().into()));
        } else {
            let error = json(&fail(&mut map, 1));
            assert_eq!(error["error"], "io.peermem.Broker.NotYours");
            assert!(
                error["message"].to_string().contains("region vram belongs to another client"),
                "{error}"
            );
        }
        // The owner and root always may.
        client.map(&request_whole(vram::name(), &[rxe()])).unwrap().unmap().unwrap();
    }
    drop((client, buffer));
    machine.is_as_before();
}

#[test]
fn only_the_owner_takes_it_back_and_its_name_is_taken_until_then() {
    let machine = Machine::start();
    let buffer = vram::allocate(SIZE);
    let [owner, other] = [machine.client(), machine.client()];
    let region = register(&owner, &buffer, Sharing::Everyone).unwrap();
    let again = refusal(register(&other, &buffer, Sharing::Everyone));
    assert_eq!(again, Refusal::RegionExists { region: vram::name() });
    let lease = owner.map(&request_whole(vram::name(), &[rxe()])).unwrap();
    let said = fail(&mut varlink_call("io.peermem.Broker.Unregister", r#"{"region":"vram"}"#), 1);
    assert!(said.contains("region vram belongs to another client"), "{said}");
    lease.unmap().unwrap();
    region.unregister().unwrap();
    register(&other, &buffer, Sharing::Everyone).unwrap();
    drop((owner, other, buffer));
    machine.is_as_before();
}

#[test]
fn ram_is_refused_whatever_it_is_wrapped_in() {
    let machine = Machine::start();
    let client = machine.client();
    let offer = |fd: BorrowedFd<'_>| refusal(register(&client, fd, Sharing::Everyone));
    for (memory, found) in [
        (memfd(SIZE), "host memory, /memfd:plain RAM"),
        (udmabuf(SIZE), "a dma-buf of exporter udmabuf"),
        (heap(SIZE), "a dma-buf of exporter system"),
    ] {
        let refused = offer(memory.as_fd());
        assert!(
            matches!(&refused, Refusal::NotDeviceMemory { found: said } if said.starts_with(found)),
            "{refused}"
        );
        assert!(refused.to_string().contains("mapping RAM as peer memory isn't permitted"), "{refused}");
    }
    for (path, found) in
        [("/dev/zero", "/dev/zero"), ("/etc/hostname", "/etc/hostname"), ("/proc/self", "/proc/")]
    {
        let refused = offer(File::open(path).unwrap().as_fd());
        assert!(
            matches!(&refused, Refusal::NotDmabuf { found: said } if said.starts_with(found)),
            "{refused}"
        );
    }
    assert_eq!(client.status().unwrap().regions, 3);
    drop(client);
    machine.is_as_before();
}

#[test]
fn an_exporter_that_the_config_does_not_name_is_refused_by_its_name() {
    let buffer = vram::allocate(SIZE);
    for config in [None, Some("[registered]\nexporters = [\"udmabuf\"]\n")] {
        let daemon = Daemon::start_with(config);
        let refused = refusal(register(&daemon.client(), &buffer, Sharing::Everyone));
        let words = refused.to_string();
        assert!(matches!(refused, Refusal::NotDeviceMemory { .. }), "{words}");
        assert!(
            words.contains("exporter peermem_testgpu") && words.contains("registered.exporters"),
            "{words}"
        );
    }
    assert!(CONFIG.contains(EXPORTER), "with the usual config it is accepted");
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let machine = Machine::start();
    let absent: PciAddress = "0000:7f:00.0".parse().unwrap();
    let client = machine.client();
    let refused =
        refusal(client.register(vram::name(), absent, vram::allocate(SIZE).as_fd(), Sharing::Everyone));
    assert_eq!(refused, Refusal::UnknownDevice { device: absent });
    drop(client);
    machine.is_as_before();
}

#[test]
fn a_range_outside_of_the_buffer_is_refused() {
    let machine = Machine::start();
    let (client, buffer) = (machine.client(), vram::allocate(SIZE));
    let region = register(&client, &buffer, Sharing::Everyone).unwrap();
    let ask = |offset, length| {
        let range = ByteRange::new(ByteLen::new(offset), ByteLen::new(length)).unwrap();
        refusal(client.map(&Map::new(vram::name(), Extent::Range(range), [rxe()], Direction::Read)))
    };
    assert!(matches!(ask(0, SIZE.get() + 4096), Refusal::OutOfRange { end, size, .. }
        if end == SIZE.get() + 4096 && size == SIZE));
    assert!(matches!(ask(SIZE.get(), 4096), Refusal::OutOfRange { .. }));
    assert!(matches!(ask(512, 4096), Refusal::NotAligned { field, .. } if field == "offset"));
    assert!(matches!(ask(4096, 0), Refusal::ZeroLength { .. }));
    drop((region, client, buffer));
    machine.is_as_before();
}

#[test]
fn a_drive_has_no_way_to_the_gpu_and_is_told_so() {
    let machine = Machine::start();
    let (client, buffer) = (machine.client(), vram::allocate(SIZE));
    let region = register(&client, &buffer, Sharing::Everyone).unwrap();
    let drive = Drive::named("a").initiator();
    let refused = refusal(client.map(&request_whole(vram::name(), std::slice::from_ref(&drive))));
    assert!(matches!(&refused, Refusal::NoRoute { initiator, .. } if *initiator == drive), "{refused}");
    drop((region, client, buffer));
    machine.is_as_before();
}

#[test]
fn taking_a_region_back_ends_its_leases_with_an_event() {
    let machine = Machine::start();
    let buffer: OwnedFd = vram::allocate(SIZE);
    let [owner, other] = [machine.client(), machine.client()];
    let mut events = Events::of(&other);
    let region = register(&owner, &buffer, Sharing::Everyone).unwrap();
    let generation = region.region().generation;
    let lease = other.map(&request_whole(vram::name(), &[rxe()])).unwrap();
    let mapping = lease.mapping().unwrap();
    mapping.put(0, b"advisory");
    region.unregister().unwrap();
    assert_eq!(events.end_of(lease.info().id), LeaseEnd::RegionGone);
    events.find("region vram has gone", |event| {
        matches!(event, Event::RegionGone { name: gone } if gone == vram::name()).then_some(())
    });
    assert!(other.leases().unwrap().is_empty());
    // The right has ended. The memory is the exporter's to take back, and it hasn't.
    assert_eq!(&mapping.all()[..8], b"advisory");
    let id = lease.info().id;
    let error = lease.unmap().unwrap_err();
    assert!(in_words(&error).contains(&format!("lease {id} is lost: it has ended")), "{error}");
    // Under the same name comes another region.
    let again = register(&owner, &buffer, Sharing::Everyone).unwrap();
    assert!(again.region().generation > generation);
    drop((again, mapping, events, owner, other, buffer));
    machine.is_as_before();
}

#[test]
fn a_name_of_the_config_s_is_not_to_be_had() {
    // Its buffer, which isn't served: it has the NVMe driver.
    let elsewhere = Drive::named("a").address;
    let bar =
        format!("{CONFIG}\n[[vfio.bar]]\ndevice = \"{elsewhere}\"\nbar = 2\nname = \"{}\"\n", vram::NAME);
    let daemon = Daemon::start_with(Some(&bar));
    let refused = refusal(register(&daemon.client(), vram::allocate(SIZE), Sharing::Everyone));
    assert!(matches!(&refused, Refusal::NotServed { region, .. } if *region == vram::name()), "{refused}");
}
