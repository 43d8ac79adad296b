//! Machines as snapshots, composed by hand.

use peermem_proto::PciAddress;
use peermem_topology::{Acs, AcsControl, Attachment, Class, Cpu, Details, Function, Snapshot};

pub(crate) const ROOT_PORT: u32 = 0x060400;
pub(crate) const DISPLAY: u32 = 0x038000;
pub(crate) const HOST_BRIDGE: u32 = 0x060000;
pub(crate) const NVME: u32 = 0x010802;

/// What the kernel sets with `intel_iommu=on`: `SrcValid+ ReqRedir+ CmpltRedir+ UpstreamFwd+`.
pub(crate) const REDIRECTS: Acs = Acs::Control(AcsControl::new(0x1d));
/// An ACS capability with all of it off.
pub(crate) const OFF: Acs = Acs::Control(AcsControl::new(0));

pub(crate) fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

pub(crate) fn amd(family: u32) -> Option<Cpu> {
    Some(Cpu { vendor: "AuthenticAMD".to_owned(), family })
}

#[derive(Default)]
pub(crate) struct Machine(pub(crate) Snapshot);

impl Machine {
    /// Adds the function at the end of `path`: the root bus, then every bridge, then the function.
    pub(crate) fn with(mut self, path: &str, id: &str, class: u32, acs: Acs) -> Self {
        let (root, functions) = path.split_once('/').unwrap();
        let mut upstream: Vec<PciAddress> = functions.split('/').map(at).collect();
        let address = upstream.pop().unwrap();
        let function = Function {
            id: id.parse().unwrap(),
            class: Class::new(class),
            express: true,
            root: root.parse().unwrap(),
            upstream,
            acs,
            no_iommu_group: None,
            details: Details::default(),
        };
        self.0.functions.insert(address, function);
        self
    }

    pub(crate) fn rdma(mut self, name: &str, attachment: Attachment) -> Self {
        self.0.rdma.insert(name.parse().unwrap(), attachment);
        self
    }

    pub(crate) fn cpu(mut self, cpu: Option<Cpu>) -> Self {
        self.0.cpu = cpu;
        self
    }

    /// Sets the ACS of a function that is there.
    pub(crate) fn acs(mut self, address: &str, acs: Acs) -> Self {
        self.0.functions.get_mut(&at(address)).unwrap().acs = acs;
        self
    }

    /// Replaces the ID of a function that is there.
    pub(crate) fn id(mut self, address: &str, id: &str) -> Self {
        self.0.functions.get_mut(&at(address)).unwrap().id = id.parse().unwrap();
        self
    }
}

pub(crate) const DRIVE_A: &str = "0000:03:00.0";
pub(crate) const DRIVE_B: &str = "0000:04:00.0";
pub(crate) const DRIVE_C: &str = "0000:05:00.0";
pub(crate) const ROOT_PORT_0: &str = "0000:00:03.0";
pub(crate) const DOWNSTREAM_0: &str = "0000:02:00.0";
pub(crate) const DOWNSTREAM_1: &str = "0000:02:01.0";

/// The guest profile `switch`: drives A and B below a switch, C below another root port, rxe0 on no bus.
pub(crate) fn switch() -> Machine {
    Machine::default()
        .with("0000:00/0000:00:00.0", "8086:29c0", HOST_BRIDGE, Acs::Absent)
        .with("0000:00/0000:00:03.0", "1b36:000c", ROOT_PORT, OFF)
        .with("0000:00/0000:00:03.0/0000:01:00.0", "104c:8232", ROOT_PORT, Acs::Absent)
        .with("0000:00/0000:00:03.0/0000:01:00.0/0000:02:00.0", "104c:8233", ROOT_PORT, Acs::Absent)
        .with("0000:00/0000:00:03.0/0000:01:00.0/0000:02:01.0", "104c:8233", ROOT_PORT, Acs::Absent)
        .with("0000:00/0000:00:03.0/0000:01:00.0/0000:02:00.0/0000:03:00.0", "1b36:0010", NVME, Acs::Absent)
        .with("0000:00/0000:00:03.0/0000:01:00.0/0000:02:01.0/0000:04:00.0", "1b36:0010", NVME, Acs::Absent)
        .with("0000:00/0000:00:04.0", "1b36:000c", ROOT_PORT, OFF)
        .with("0000:00/0000:00:04.0/0000:05:00.0", "1b36:0010", NVME, Acs::Absent)
        .with("0000:00/0000:00:05.0", "1234:1111", DISPLAY, Acs::Absent)
        .rdma("rxe0", Attachment::Software {})
}

/// Two sockets, each with a root port and a drive below it; `first` is the first device on both root buses.
pub(crate) fn two_sockets(first: &str) -> Machine {
    Machine::default()
        .with("0000:00/0000:00:00.0", first, HOST_BRIDGE, Acs::Absent)
        .with("0000:00/0000:00:01.0", "8086:2030", ROOT_PORT, OFF)
        .with("0000:00/0000:00:01.0/0000:01:00.0", "144d:a80a", NVME, Acs::Absent)
        .with("0000:00/0000:00:02.0", "8086:2031", ROOT_PORT, OFF)
        .with("0000:00/0000:00:02.0/0000:02:00.0", "144d:a80a", NVME, Acs::Absent)
        .with("0000:80/0000:80:00.0", first, HOST_BRIDGE, Acs::Absent)
        .with("0000:80/0000:80:01.0", "8086:2030", ROOT_PORT, OFF)
        .with("0000:80/0000:80:01.0/0000:81:00.0", "144d:a80a", NVME, Acs::Absent)
}
