//! The PCI tree from sysfs, and the route between any two of its devices.
//!
//! A [`Snapshot`] is what sysfs said at one moment: plain data, which serialises, so that a machine's tree can be
//! recorded and asked about elsewhere. [`Snapshot::route`] gives the kernel's own verdict on it: the rule of
//! `drivers/pci/p2pdma.c` as of Linux 7.3, port by port.
//!
//! Reading the ACS registers takes `CAP_SYS_ADMIN`, but only while the files are opened: [`ConfigSpaces`] holds
//! them open, so that a process which has since dropped its capabilities still reads the live registers.
//!
//! **Invariant:** a verdict isn't proof. It says what the kernel will accept, which is what mappings depend on; it
//! deliberately says nothing about whether the bytes arrive. Only moving bytes and comparing them does.
#![forbid(unsafe_code)]

mod acs;
mod bus_address;
mod config;
mod config_spaces;
mod cpu;
mod explain;
mod function;
mod host_bridges;
mod id;
mod link;
mod name;
mod no_route;
mod reason;
mod roles;
mod route;
mod snapshot;
mod sysfs;
mod text;
mod way;

pub use acs::{Acs, AcsControl};
pub use bus_address::{BusAddressError, Window, bus_address, bus_address_of_bar};
pub use config::{ConfigUnreadable, acs_capability};
pub use config_spaces::ConfigSpaces;
pub use cpu::Cpu;
pub use explain::{NumaNodes, PathLink, PathReport, Turn, Verdict};
pub use function::{Bar, Details, Function, IommuDomain, IommuGroup, P2pmem};
pub use id::{Class, NodeGuid, PciId, RootBus};
pub use link::{Link, LinkMode, LinkSpeed};
pub use name::DeviceName;
pub use no_route::{HostBridgeRefusal, NoRoute};
pub use roles::MemoryKind;
pub use snapshot::{Attachment, Dax, Network, Nvme, Snapshot};
pub use sysfs::SysfsError;
pub use text::TextError;
