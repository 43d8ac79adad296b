//! Memory that its owner registers, as a GPU's: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use peermem::{CallFailed, Client, RegisteredRegion, rdma::pattern, verbs::Memory};
use peermem_proto::{
    ByteLen, ByteRange, Direction, Event, Extent, LeaseEnd, Method, PciAddress, ProviderKind, Refusal,
    RegionName, Revocation, Shape, Sharing, call::Map,
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
    wait::until,
};
use peermem_testgpu::{EXPORTER, Info, TestGpu};

const SIZE: ByteLen = ByteLen::new(2 << 20);

/// The test GPU with nothing in use by the daemon, which must be so again in the end.
struct Machine {
    gpu: TestGpu,
    daemon: Daemon,
    descriptors: usize,
    info: Info,
}

impl Machine {
    fn start() -> Self {
        let (gpu, daemon) = (TestGpu::open().unwrap(), Daemon::start());
        let (descriptors, info) = (daemon.descriptors().len(), gpu.info().unwrap());
        Self { gpu, daemon, descriptors, info }
    }

    fn client(&self) -> Client {
        self.daemon.client()
    }

    /// The GPU's PCI function.
    fn address(&self) -> PciAddress {
        self.info.pci_address.parse().unwrap()
    }

    /// Fresh VRAM.
    fn allocate(&self) -> OwnedFd {
        self.gpu.alloc(SIZE.get()).unwrap()
    }

    /// Closed descriptors and freed buffers come without an event.
    fn is_as_before(&self) {
        until("the daemon has closed its descriptors and the GPU its buffers", || {
            (self.daemon.descriptors().len() == self.descriptors && self.gpu.info().unwrap() == self.info)
                .then_some(())
        });
        assert_eq!(self.daemon.dmabufs(), 0);
    }
}

fn name(text: &str) -> RegionName {
    text.parse().unwrap()
}

/// Offers `dmabuf` as a region called `vram`.
fn register(
    client: &Client,
    device: PciAddress,
    dmabuf: impl AsFd,
    sharing: Sharing,
) -> Result<RegisteredRegion, CallFailed> {
    client.register(name("vram"), device, dmabuf.as_fd(), sharing)
}

#[test]
fn another_connection_maps_what_the_owner_registered() {
    let machine = Machine::start();
    let buffer = machine.allocate();
    let owner = machine.client();
    let region = register(&owner, machine.address(), &buffer, Sharing::Everyone).unwrap();
    let listed = region.region();
    assert_eq!((listed.provider, listed.shape), (ProviderKind::Registered, Shape::Window));
    assert_eq!((listed.device, listed.size), (Some(machine.address()), SIZE));
    assert_eq!((listed.method, listed.revocation), (Method::Dmabuf, Revocation::Advisory));
    assert_eq!((listed.owner_uid, listed.emulated), (Some(0), false));
    assert_eq!(machine.daemon.dmabufs(), 1, "the daemon holds one descriptor of the buffer");

    let other = machine.client();
    let part = ByteRange::new(ByteLen::new(65536), ByteLen::new(1 << 20)).unwrap();
    let lease =
        other.map(&Map::new(name("vram"), Extent::Range(part), [rxe()], Direction::Bidirectional)).unwrap();
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
    let (client, buffer) = (machine.client(), machine.allocate());
    let member = User::add_member("member");
    let mut map = member.command(&peermemctl("map vram --for 0"));
    for (sharing, allowed) in [(Sharing::Owner, false), (Sharing::Everyone, true)] {
        let _region = register(&client, machine.address(), &buffer, sharing).unwrap();
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
        client.map(&request_whole(name("vram"), &[rxe()])).unwrap().unmap().unwrap();
    }
    drop((client, buffer));
    machine.is_as_before();
}

#[test]
fn only_the_owner_takes_it_back_and_its_name_is_taken_until_then() {
    let machine = Machine::start();
    let buffer = machine.allocate();
    let [owner, other] = [machine.client(), machine.client()];
    let region = register(&owner, machine.address(), &buffer, Sharing::Everyone).unwrap();
    let again = refusal(register(&other, machine.address(), &buffer, Sharing::Everyone));
    assert_eq!(again, Refusal::RegionExists { region: name("vram") });
    let lease = owner.map(&request_whole(name("vram"), &[rxe()])).unwrap();
    let said = fail(&mut varlink_call("io.peermem.Broker.Unregister", r#"{"region":"vram"}"#), 1);
    assert!(said.contains("region vram belongs to another client"), "{said}");
    lease.unmap().unwrap();
    region.unregister().unwrap();
    register(&other, machine.address(), &buffer, Sharing::Everyone).unwrap();
    drop((owner, other, buffer));
    machine.is_as_before();
}

#[test]
fn ram_is_refused_whatever_it_is_wrapped_in() {
    let machine = Machine::start();
    let (client, device) = (machine.client(), machine.address());
    let offer = |fd: BorrowedFd<'_>| refusal(register(&client, device, fd, Sharing::Everyone));
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
    let gpu = TestGpu::open().unwrap();
    let buffer = gpu.alloc(SIZE.get()).unwrap();
    let device = gpu.info().unwrap().pci_address.parse().unwrap();
    for config in [None, Some("[registered]\nexporters = [\"udmabuf\"]\n")] {
        let daemon = Daemon::start_with(config);
        let refused = refusal(register(&daemon.client(), device, &buffer, Sharing::Everyone));
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
    let refused = refusal(register(&client, absent, machine.allocate(), Sharing::Everyone));
    assert_eq!(refused, Refusal::UnknownDevice { device: absent });
    drop(client);
    machine.is_as_before();
}

#[test]
fn a_range_outside_of_the_buffer_is_refused() {
    let machine = Machine::start();
    let (client, buffer) = (machine.client(), machine.allocate());
    let region = register(&client, machine.address(), &buffer, Sharing::Everyone).unwrap();
    let ask = |offset, length| {
        let range = ByteRange::new(ByteLen::new(offset), ByteLen::new(length)).unwrap();
        refusal(client.map(&Map::new(name("vram"), Extent::Range(range), [rxe()], Direction::Read)))
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
    let (client, buffer) = (machine.client(), machine.allocate());
    let region = register(&client, machine.address(), &buffer, Sharing::Everyone).unwrap();
    let drive = Drive::named("a").initiator();
    let refused = refusal(client.map(&request_whole(name("vram"), std::slice::from_ref(&drive))));
    assert!(matches!(&refused, Refusal::NoRoute { initiator, .. } if *initiator == drive), "{refused}");
    drop((region, client, buffer));
    machine.is_as_before();
}

#[test]
fn taking_a_region_back_ends_its_leases_with_an_event() {
    let machine = Machine::start();
    let buffer: OwnedFd = machine.allocate();
    let [owner, other] = [machine.client(), machine.client()];
    let mut events = Events::of(&other);
    let region = register(&owner, machine.address(), &buffer, Sharing::Everyone).unwrap();
    let generation = region.region().generation;
    let lease = other.map(&request_whole(name("vram"), &[rxe()])).unwrap();
    let mapping = lease.mapping().unwrap();
    mapping.put(0, b"advisory");
    region.unregister().unwrap();
    assert_eq!(events.end_of(lease.info().id), LeaseEnd::RegionGone);
    events.find("region vram has gone", |event| {
        matches!(event, Event::RegionGone { name: gone } if gone == name("vram")).then_some(())
    });
    assert!(other.leases().unwrap().is_empty());
    // The right has ended. The memory is the exporter's to take back, and it hasn't.
    assert_eq!(&mapping.all()[..8], b"advisory");
    let id = lease.info().id;
    let error = lease.unmap().unwrap_err();
    assert!(in_words(&error).contains(&format!("lease {id} doesn't exist, or has ended")), "{error}");
    // Under the same name comes another region.
    let again = register(&owner, machine.address(), &buffer, Sharing::Everyone).unwrap();
    assert!(again.region().generation > generation);
    drop((again, mapping, events, owner, other, buffer));
    machine.is_as_before();
}
