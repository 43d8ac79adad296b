//! One function, taken.

use std::{
    fmt,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use peermem_proto::{BusAddr, PciAddress};
use peermem_topology::{Details, DeviceName, Snapshot};
use rustix::io::Errno;
use thiserror::Error;

use super::{Space, Taking, WithoutIommu, claim::Claim};
use crate::sys::vfio::{BarIndex, Device, Domain, GroupError, Iommu, IommuInfoError, IommufdError};

/// The pauses in which a device may still be open that nobody has any more: systemd leaves the closing of what it has dropped to another
/// process (`asynchronous_close` in src/shared/async.c), and doesn't wait for it.
pub(crate) const CLOSING: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
];

/// Another function of an IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: PciAddress,
    /// The driver that has it.
    pub driver: Option<DeviceName>,
}

/// The other functions of an IOMMU group, bridges left out: those do no DMA of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members(pub Vec<Member>);

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Member { address, driver }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match driver {
                Some(driver) => write!(f, "{address} (driver {driver})")?,
                None => write!(f, "{address} (no driver)")?,
            }
        }
        Ok(())
    }
}

/// Why a function can't be taken.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is none.
    #[error("no PCI function {0} on this node: `lspci -D` lists those that are")]
    Absent(PciAddress),
    /// The kernel's own driver has it.
    #[error(
        "{address} isn't bound to vfio-pci but to {}: `driverctl set-override {address} vfio-pci` binds it, and takes it \
         from that driver",
        .driver.as_ref().map_or("no driver", |driver| driver.as_str())
    )]
    NotBound {
        /// The function.
        address: PciAddress,
        /// Its driver.
        driver: Option<DeviceName>,
    },
    /// Nothing stands between it and memory.
    #[error(
        "{address} has no IOMMU group: no IOMMU translates what it emits, so it could reach all memory. Switch the IOMMU on in \
         the firmware, and boot with intel_iommu=on or amd_iommu=on{}",
        if *.without_iommu == WithoutIommu::Allowed {
            ". To be taken without one, as `no_iommu` allows, it needs vfio's parameter enable_unsafe_noiommu_mode, and a kernel \
             with CONFIG_VFIO_NOIOMMU"
        } else {
            ""
        }
    )]
    NoIommu {
        /// The function.
        address: PciAddress,
        /// Whether the administrator would have it taken all the same.
        without_iommu: WithoutIommu,
    },
    /// Nothing stands between it and memory, and vfio would give it all the same.
    #[error(
        "no IOMMU translates what {0} emits: whoever drives it reads and writes all memory of this machine. vfio would give it \
         (enable_unsafe_noiommu_mode); the daemon takes it when its config names it: `no_iommu = [\"{0}\"]` below `[vfio]`"
    )]
    NotAllowed(PciAddress),
    /// The IOMMU can't tell it from others that the kernel uses.
    #[error(
        "{address} shares IOMMU group {group} with {others}: each of them must be bound to vfio-pci or to no driver"
    )]
    NotViable {
        /// The function.
        address: PciAddress,
        /// The group's number.
        group: u32,
        /// The others.
        others: Members,
    },
    /// The group or its IOMMU wasn't given.
    #[error(transparent)]
    Group(GroupError),
    /// The address space or the device wasn't given.
    #[error(transparent)]
    Iommufd(IommufdError),
    /// The device has no file of its own.
    #[error(
        "{0} can't be taken by iommufd: it has no file /dev/vfio/devices/vfioN, which takes Linux 6.6 or newer with CONFIG_IOMMUFD \
         and CONFIG_VFIO_DEVICE_CDEV. Where the kernel has containers, `backend = \"container\"` below `[vfio]` takes it by those"
    )]
    NoIommufd(PciAddress),
    /// What was kept is no address space of it.
    #[error("the address space of {address} isn't there any more")]
    AddressSpace {
        /// The function.
        address: PciAddress,
        /// The kernel's answer.
        #[source]
        source: IommuInfoError,
    },
    /// The group has been taken and the function wasn't given.
    #[error("the kernel doesn't give {address}")]
    Device {
        /// The function.
        address: PciAddress,
        /// Its answer.
        #[source]
        source: Errno,
    },
}

impl OpenError {
    /// Whether it may be over soon: a function that is plugged in is bound, and its group's file gets its owner, some time later.
    pub const fn may_pass(&self) -> bool {
        let unopened = matches!(
            self,
            Self::Group(GroupError::Open(_)) | Self::Iommufd(IommufdError::Open(_)) | Self::NoIommufd(_)
        );
        unopened || matches!(self, Self::NotBound { .. })
    }

    /// Whether someone still has the device itself.
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::Iommufd(IommufdError::InUse))
    }
}

/// What a function's state lives in: while copies of these are open, the device isn't reset, its dma-bufs are valid, and what is
/// mapped for it stays mapped.
#[derive(Debug)]
pub struct Descriptors<Fd> {
    /// Of the device.
    pub device: Fd,
    /// Of what its address space lives in.
    pub space: Space<Fd>,
}

/// A PCI function in the daemon's hands, with a DMA address space of its own where it has an IOMMU.
#[derive(Debug)]
pub struct Function {
    address: PciAddress,
    // Closed before the group.
    device: Device,
    claim: Claim,
    others: Members,
    bars: Vec<(u8, BusAddr)>,
}

impl Function {
    /// Takes a function. `snapshot` tells what the kernel only answers with
    /// `EINVAL`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(snapshot: &Snapshot, address: PciAddress, taking: Taking) -> Result<Self, OpenError> {
        let Taking { backend, without_iommu } = taking;
        let found = snapshot.functions.get(&address).ok_or(OpenError::Absent(address))?;
        let details = &found.details;
        let group = details.iommu.map(|group| (group.number, Iommu::TypeOne));
        let group = group.or(found.no_iommu_group.map(|number| (number, Iommu::None)));
        // Without a group there is no binding it to vfio-pci.
        let (number, iommu) = group.ok_or(OpenError::NoIommu { address, without_iommu })?;
        if iommu == Iommu::None && without_iommu == WithoutIommu::Refused {
            return Err(OpenError::NotAllowed(address));
        }
        if !details.is_vfio_bound() {
            return Err(OpenError::NotBound { address, driver: details.driver.clone() });
        }
        let others = others(snapshot, address);
        let not_viable = |error| match error {
            OpenError::Group(GroupError::NotViable { .. }) | OpenError::Iommufd(IommufdError::GroupInUse)
                if !others.0.is_empty() =>
            {
                OpenError::NotViable { address, group: number, others: others.clone() }
            }
            error => error,
        };
        let claim = Claim::open(address, details, (number, iommu), backend).map_err(not_viable)?;
        let device = claim.device(address).map_err(not_viable)?;
        Ok(Self { address, device, claim, others, bars: bus_addresses(details) })
    }

    /// Takes a function over from an earlier process, as that left it.
    ///
    /// # Errors
    /// [`OpenError::Device`] and [`OpenError::AddressSpace`] for descriptors that aren't what they should be,
    /// [`OpenError::NotAllowed`].
    pub fn take_over(
        snapshot: &Snapshot,
        address: PciAddress,
        kept: Descriptors<OwnedFd>,
        without_iommu: WithoutIommu,
    ) -> Result<Self, OpenError> {
        let found = snapshot.functions.get(&address).ok_or(OpenError::Absent(address))?;
        let claim = Claim::take_over(address, &found.details, kept.space)?;
        if claim.domain().is_none() && without_iommu == WithoutIommu::Refused {
            return Err(OpenError::NotAllowed(address));
        }
        let device = Device::take_over(kept.device);
        let device = device.map_err(|source| OpenError::Device { address, source })?;
        let (others, bars) = (others(snapshot, address), bus_addresses(&found.details));
        Ok(Self { address, device, claim, others, bars })
    }

    /// What a later process must be given to take this function over.
    pub fn descriptors(&self) -> Descriptors<BorrowedFd<'_>> {
        Descriptors { device: self.device.as_fd(), space: self.claim.space() }
    }

    /// Lets go of the device and takes it again, in the same address space; blocks for a moment where it is still in use. When nobody else has a descriptor of it or a
    /// mapping of its BARs, the kernel resets it and revokes every dma-buf of it for good.
    ///
    /// # Errors
    /// [`OpenError::Device`] and [`OpenError::Iommufd`]; the function is lost.
    pub fn reopen(self) -> Result<Self, OpenError> {
        let Self { address, device, claim, others, bars } = self;
        drop(device);
        let mut pauses = CLOSING.into_iter();
        let device = loop {
            match claim.device(address) {
                Err(error) if error.is_in_use() => thread::sleep(pauses.next().ok_or(error)?),
                taken => break taken?,
            }
        };
        Ok(Self { address, device, claim, others, bars })
    }

    /// Whether [`Function::reopen`] fails while anybody else has the device, instead of sharing it with them.
    pub const fn is_exclusive(&self) -> bool {
        self.claim.is_exclusive()
    }

    /// Its address.
    pub const fn address(&self) -> PciAddress {
        self.address
    }

    /// Its BARs and configuration space.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Its DMA address space; `None` without an IOMMU: what it emits is where it goes.
    pub fn domain(&self) -> Option<Domain<'_>> {
        self.claim.domain()
    }

    /// Where a BAR of it is on the bus, as far as that can be told.
    pub fn bus_address(&self, bar: BarIndex) -> Option<BusAddr> {
        self.bars.iter().find(|(index, _)| *index == bar.get()).map(|&(_, address)| address)
    }

    /// Who shares that address space.
    pub const fn others(&self) -> &Members {
        &self.others
    }
}

fn bus_addresses(details: &Details) -> Vec<(u8, BusAddr)> {
    details.bars.iter().filter_map(|bar| Some((bar.index, bar.bus_address?))).collect()
}

fn others(snapshot: &Snapshot, address: PciAddress) -> Members {
    let member = |(address, function): (_, &peermem_topology::Function)| Member {
        address,
        driver: function.details.driver.clone(),
    };
    Members(snapshot.shares_group_with(address).map(member).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot() -> Snapshot {
        let function = |class: &str, driver: Option<&str>, group: Option<u32>| {
            let mut details = json!({});
            if let Some(driver) = driver {
                details["driver"] = json!(driver);
            }
            if let Some(number) = group {
                details["iommu"] = json!({ "number": number });
            }
            json!({ "id": "1b36:0010", "class": class, "express": true, "root": "0000:00", "upstream": [],
                    "acs": "absent", "details": details })
        };
        let mut functions = json!({
            "0000:00:01.0": function("0x060400", Some("pcieport"), Some(7)),
            "0000:01:00.0": function("0x010802", Some("vfio-pci"), Some(7)),
            "0000:01:00.1": function("0x010802", Some("nvme"), Some(7)),
            "0000:01:00.2": function("0x010802", None, Some(7)),
            "0000:02:00.0": function("0x010802", Some("nvme"), None),
            "0000:03:00.0": function("0x010802", Some("vfio-pci"), None),
        });
        functions["0000:03:00.0"]["no_iommu_group"] = json!(3);
        serde_json::from_value(json!({ "cpu": null, "functions": functions, "rdma": {} })).unwrap()
    }

    fn refused(address: &str) -> OpenError {
        Function::open(&snapshot(), address.parse().unwrap(), Taking::default()).unwrap_err()
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        assert!(matches!(refused("0000:09:00.0"), OpenError::Absent(_)));
        let bound = refused("0000:01:00.1").to_string();
        assert!(bound.contains("to nvme:") && bound.contains("driverctl"), "{bound}");
        assert!(refused("0000:01:00.2").to_string().contains("to no driver"));
        let open = refused("0000:02:00.0").to_string();
        assert!(open.contains("no IOMMU group") && open.contains("intel_iommu=on"), "{open}");
        assert!(!open.contains("enable_unsafe_noiommu_mode"), "{open}");
    }

    #[test]
    fn without_an_iommu_a_function_is_taken_by_name_only() {
        let refusal = refused("0000:03:00.0").to_string();
        assert!(
            refusal.contains("all memory") && refusal.contains(r#"`no_iommu = ["0000:03:00.0"]`"#),
            "{refusal}"
        );
        let allowed = Taking { without_iommu: WithoutIommu::Allowed, ..Taking::default() };
        let unbound = Function::open(&snapshot(), "0000:02:00.0".parse().unwrap(), allowed).unwrap_err();
        assert!(unbound.to_string().contains("enable_unsafe_noiommu_mode"), "{unbound}");
    }

    #[test]
    fn a_groups_other_members_are_named_without_bridges() {
        let others = others(&snapshot(), "0000:01:00.0".parse().unwrap());
        assert_eq!(others.to_string(), "0000:01:00.1 (driver nvme), 0000:01:00.2 (no driver)");
    }
}
