//! From a lease to a memory region.

use std::sync::Arc;

use peermem_proto::{ByteRange, Direction, Initiator, LeaseId, Method, Path};
use thiserror::Error;

use crate::{
    Connection, Lease, MappingError,
    verbs::{Access, DmabufRange, MemoryRegion, ProtectionDomain, RegisterError},
};

/// Why a lease can't be registered for RDMA.
#[derive(Debug, Error)]
pub enum RegistrationError {
    /// The lease was granted for another device: the way to the memory was judged for that one only.
    #[error(
        "the lease is for {granted}, not for RDMA device {device}: map again with `rdma:{device}` as the initiator"
    )]
    AnotherInitiator {
        /// Whom the lease names.
        granted: String,
        /// The protection domain's device.
        device: String,
    },
    /// More access than the lease's direction allows.
    #[error(
        "the lease lets its initiator only {direction}, and the access asked for is more than that: map again as bidirectional"
    )]
    AnotherDirection {
        /// What the lease allows.
        direction: Direction,
    },
    /// The right has gone.
    #[error(
        "lease {lease} has been revoked, or the daemon has it no longer: drop what was made of it, and map again"
    )]
    Revoked {
        /// Which.
        lease: LeaseId,
    },
    /// The memory can't be mapped, which the method begins with.
    #[error("the memory can't be mapped")]
    Mapping(#[from] MappingError),
    /// The device or the kernel refused.
    #[error(transparent)]
    Device(#[from] RegisterError),
}

impl<C: Connection> Lease<C> {
    /// Registers the leased memory in `pd` by the method that the daemon named: a dma-buf as it is, anything else through
    /// [`Lease::mapping`], which the region shares and keeps alive.
    ///
    /// The region doesn't hold the lease. Where revocation is advisory, drop the region before giving the lease back.
    ///
    /// # Errors
    /// [`RegistrationError`], which says in words what stands in the way.
    pub fn register(
        &self,
        pd: &Arc<ProtectionDomain>,
        access: Access,
    ) -> Result<Arc<MemoryRegion>, RegistrationError> {
        let info = self.info();
        if self.is_revoked() {
            return Err(RegistrationError::Revoked { lease: info.id });
        }
        check_initiator(&info.paths, pd.context().name())?;
        check_access(info.direction, access)?;
        Ok(match info.method {
            Method::Dmabuf => {
                let offset = self.memory_offset();
                // Any iova will do whose low bits are the offset's; the offset itself is one.
                let part = DmabufRange { range: self.memory_range()?, iova: offset.get() };
                MemoryRegion::dmabuf(pd, self.memory(), part, access, ())?
            }
            Method::OnDemand => MemoryRegion::on_demand(pd, self.mapping()?, access)?,
            Method::Pinned => MemoryRegion::pinned(pd, self.mapping()?, access)?,
        })
    }

    fn memory_range(&self) -> Result<ByteRange, MappingError> {
        let length = self.info().length;
        ByteRange::new(self.memory_offset(), length).ok_or(MappingError::AddressSpace { length })
    }
}

fn check_initiator(paths: &[Path], device: &str) -> Result<(), RegistrationError> {
    let is_meant = |path: &Path| matches!(&path.initiator, Initiator::Rdma(name) if name.as_str() == device);
    if paths.iter().any(is_meant) {
        return Ok(());
    }
    let granted = paths.iter().map(|path| path.initiator.to_string()).collect::<Vec<_>>().join(" and ");
    Err(RegistrationError::AnotherInitiator { granted, device: device.to_owned() })
}

/// Local reads can't be kept from a device that has the region; everything else can.
fn check_access(direction: Direction, access: Access) -> Result<(), RegistrationError> {
    let exceeds = match direction {
        Direction::Bidirectional => false,
        Direction::Read => access.contains(Access::LOCAL_WRITE),
        Direction::Write => access.contains(Access::REMOTE_READ),
    };
    if exceeds { Err(RegistrationError::AnotherDirection { direction }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use peermem_proto::Route;

    use super::*;

    fn path(initiator: &str) -> Path {
        Path { initiator: initiator.parse().unwrap(), route: Route::Software {}, dma: None, found: None }
    }

    #[test]
    fn a_lease_is_for_its_own_initiators() {
        let granted = [path("pci:0000:01:00.0"), path("rdma:mlx5_0")];
        assert!(check_initiator(&granted, "mlx5_0").is_ok());
        let text = check_initiator(&granted, "mlx5_1").unwrap_err().to_string();
        assert!(text.contains("rdma:mlx5_0") && text.contains("`rdma:mlx5_1`"), "{text}");
        assert!(check_initiator(&[path("emulated")], "rxe0").is_err());
    }

    #[test]
    fn access_stays_within_the_direction() {
        let (reads, writes) = (Access::REMOTE_READ, Access::REMOTE_WRITE);
        for (direction, access, allowed) in [
            (Direction::Read, reads, true),
            (Direction::Read, reads | writes, false),
            (Direction::Read, Access::LOCAL_WRITE, false),
            (Direction::Write, writes, true),
            (Direction::Write, reads | writes, false),
            (Direction::Bidirectional, reads | writes, true),
        ] {
            assert_eq!(check_access(direction, access).is_ok(), allowed, "{direction} {access:?}");
        }
    }
}
