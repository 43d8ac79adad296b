//! Functions in the daemon's hands, as a scenario sees them.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use peermem::{Client, Lease, rdma::pattern, verbs::Memory};
use peermem_proto::{ByteLen, Direction, Extent, Initiator, PciAddress, RegionName, call::Map};
use peermem_topology::PciId;
use peermemd::{
    sys::vfio::{BarIndex, Device},
    vfio::Backend,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::{
    command::run,
    daemon::Daemon,
    edu::Engine,
    peers::CpuAccess as _,
    vfio::{EDU, FPGA, GPU, address_of, look_at, range, taking},
    wait::until,
};

/// How long a lease of the scenarios' is.
pub const LENGTH: ByteLen = ByteLen::new(16 << 10);

/// The daemon with the GPU's and the FPGA's memory, and the engine to map it for.
#[derive(Debug)]
pub struct Owner {
    /// It.
    pub daemon: Daemon,
}

impl Owner {
    /// Starts it, and waits until the memory is cleared.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more in its config.
    pub fn start_with(more: &str) -> Self {
        let owner = Self::begin(28, more);
        owner.until_free("gpu");
        owner.until_free("fpga");
        owner
    }

    /// Starts it, and doesn't wait for regions, which there may be none of.
    pub fn begin(address_bits: u8, more: &str) -> Self {
        // Faults at the same addresses in earlier scenarios are none of this one's.
        run("dmesg --clear");
        give_to_daemon();
        let [gpu, fpga, edu] = [GPU.0, FPGA.0, EDU].map(address_of);
        // In other profiles that is left to the daemon, and to what `more` says below `[vfio]`.
        let backend = match taking().backend {
            Backend::Iommufd => "[vfio]\nbackend = \"iommufd\"\n",
            _ => "",
        };
        let config = format!(
            "[metrics]\nlisten = \"127.0.0.1:9489\"\n{backend}\
             [[vfio.bar]]\ndevice = \"{gpu}\"\nbar = 0\nname = \"gpu\"\n\
             [[vfio.bar]]\ndevice = \"{fpga}\"\nbar = 2\nname = \"fpga\"\n\
             [[vfio.initiator]]\ndevice = \"{edu}\"\naddress_bits = {address_bits}\ngive_device = true\n{more}"
        );
        Self { daemon: Daemon::start_with(Some(&config)) }
    }

    /// Waits until nothing of a region is leased, held or being cleared.
    pub fn until_free(&self, region: &str) {
        until(&format!("all of {region} is free"), || {
            let regions = self.daemon.client().regions().unwrap();
            let region = regions.into_iter().find(|found| found.name.as_str() == region)?;
            (region.free == region.size).then_some(())
        });
    }

    /// The scenario's own look at what a lease has: by a copy of the daemon's descriptor of the device.
    pub fn look_at(&self, (id, bar): (PciId, BarIndex), lease: &Lease) -> Memory {
        let info = lease.info();
        look_at(&self.device(address_of(id)), bar, range(info.offset.get(), info.length.get()))
    }

    fn device(&self, address: PciAddress) -> Device {
        let pid = self.daemon.pid();
        let is_of = |number: &str| {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
            let line = info.lines().find(|line| line.starts_with("vfio-device-syspath:"));
            line.is_some_and(|line| line.ends_with(&address.to_string()))
        };
        let fds = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap();
        let mut numbers = fds.map(|fd| fd.unwrap().file_name().into_string().unwrap());
        let number = numbers.find(|number| is_of(number)).expect("the daemon has the device open");
        let process = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
        let fd = pidfd_getfd(process, number.parse().unwrap(), PidfdGetfdFlags::empty()).unwrap();
        Device::take_over(fd).unwrap()
    }
}

/// What the administrator's udev rules do.
pub fn give_to_daemon() {
    run("chown -R peermem /dev/vfio && if [ -e /dev/iommu ]; then chown peermem /dev/iommu; fi");
}

/// The engine, by the name that the daemon knows it by.
pub fn engine() -> Initiator {
    Initiator::Vfio(address_of(EDU))
}

/// What asks for memory that the engine reaches.
pub fn request(region: &str, direction: Direction) -> Map {
    let region: RegionName = region.parse().unwrap();
    Map::new(region, Extent::Size(LENGTH), [engine()], direction)
}

/// Leases memory that the engine reads and writes.
pub fn lease(client: &Client, region: &str) -> Lease {
    client.map(&request(region, Direction::Bidirectional)).unwrap()
}

/// Leases memory, with the engine itself.
pub fn lease_and_drive(client: &Client, region: &str) -> (Lease, Engine) {
    let address = address_of(EDU);
    let lease = client.map(&request(region, Direction::Bidirectional).driving(address)).unwrap();
    let device: OwnedFd = lease.device().unwrap().try_clone_to_owned().unwrap();
    let engine = Engine::of(&Device::take_over(device).unwrap(), address);
    (lease, engine)
}

/// Has the engine copy from the GPU to the FPGA and back, other bytes each way, and compares every one.
pub fn copies_both_ways(owner: &Owner, edu: &Engine, gpu: &Lease, fpga: &Lease) {
    let [at_gpu, at_fpga] = [gpu, fpga].map(|lease| lease.address_for(&engine()).unwrap());
    let [gpu_bytes, fpga_bytes] = [owner.look_at(GPU, gpu), owner.look_at(FPGA, fpga)];
    for (key, from, to, source, target) in
        [(1, &at_gpu, &at_fpga, &gpu_bytes, &fpga_bytes), (2, &at_fpga, &at_gpu, &fpga_bytes, &gpu_bytes)]
    {
        let bytes = pattern::bytes(key, usize::try_from(LENGTH.get()).unwrap());
        source.put(0, &bytes);
        edu.copy(from, to, LENGTH);
        assert_eq!(pattern::difference(&target.all(), &bytes), None);
    }
}

/// Where the kernel removes a function.
pub fn removal(address: PciAddress) -> PathBuf {
    format!("/sys/bus/pci/devices/{address}/remove").into()
}
