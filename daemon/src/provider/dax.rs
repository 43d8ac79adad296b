//! Device DAX (`/dev/daxX.Y`): CXL memory and persistent memory that user space maps page by page.
//!
//! A character device without windows: whoever has it can map all of it. So it is lent whole, to one client at a time, and
//! zeroed in between. The kernel doesn't tell who still has it mapped; a client that keeps its mapping sees what the next one
//! writes. Its pages are ordinary ones: every RDMA device can register them, pinned.
//!
//! Only devices that the administrator named are served. Persistent memory may hold somebody's data, and being served means
//! being zeroed.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use peermem_proto::{
    ByteLen, Fault, Method, PciAddress, ProviderKind, RegionName, Revocation, Shape, Sharing,
};
use peermem_topology::{DeviceName, Snapshot};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use thiserror::Error;

use super::{Carved, fault};
use crate::{
    core::{RegionSpec, Returns},
    sys::Piece,
    words::in_words,
};

/// Why a device DAX isn't served.
#[derive(Debug, Error)]
pub enum DaxError {
    /// There is none of that name.
    #[error("no device DAX {0} on this node: `daxctl list` lists those that are")]
    Absent(DeviceName),
    /// Its file can't be opened.
    #[error(
        "can't open {}: it exists while the driver device_dax has the device; kmem makes ordinary memory of it",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
}

/// Why a device isn't lent.
#[derive(Debug, Error)]
pub enum LendError {
    /// A client has it.
    #[error("{0} is lent, and only one client at a time can have it")]
    Lent(DeviceName),
    /// It may hold what an earlier client wrote.
    #[error("{0} is being zeroed")]
    NotCleared(DeviceName),
    /// There is no descriptor for it.
    #[error("the device's descriptor can't be opened again")]
    Open(#[from] DaxError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Dirty,
    /// Somebody zeroes it: nobody else may begin to, since the next client may have it when they end.
    Clearing,
    Clean,
    Lent,
}

/// A device DAX.
#[derive(Debug)]
pub struct Dax {
    name: DeviceName,
    path: PathBuf,
    size: ByteLen,
    /// The PCI function that it is of, where it is of one.
    device: Option<PciAddress>,
    /// The inode of its file, which is another one each time the driver binds.
    incarnation: u64,
    state: State,
}

/// A device DAX that nobody has and that may hold what someone wrote.
#[derive(Debug)]
#[must_use = "the device stays out of use until it is cleared"]
pub struct DaxClearing {
    fd: OwnedFd,
    size: ByteLen,
}

/// Proof that a device DAX holds zeroes.
#[derive(Debug)]
#[must_use = "the device stays out of use until it has this back"]
pub struct DaxCleared(());

/// The region that a device is: exclusive, so that its only alignment is its size.
pub fn spec(name: RegionName, dax: &Dax) -> RegionSpec {
    RegionSpec {
        name,
        provider: ProviderKind::Dax,
        device: dax.device,
        incarnation: dax.incarnation,
        shape: Shape::Pool,
        size: dax.size,
        share: None,
        alignment: dax.size,
        method: Method::Pinned,
        revocation: Revocation::Advisory,
        sharing: Sharing::Everyone,
        returns: Returns::InItsTime,
    }
}

impl Dax {
    /// The device of that name, whose file is in `dev` (`/dev`). It is lent once it is cleared.
    ///
    /// # Errors
    /// [`DaxError`].
    pub fn open(snapshot: &Snapshot, dev: &Path, name: DeviceName) -> Result<Self, DaxError> {
        let Some(found) = snapshot.dax.get(&name) else { return Err(DaxError::Absent(name)) };
        let (path, size, device) = (dev.join(name.as_str()), found.size, found.address);
        let mut dax = Self { name, path, size, device, incarnation: 0, state: State::Dirty };
        let opened = dax.descriptor()?;
        dax.incarnation = rustix::fs::fstat(&opened).map_or(0, |stat| stat.st_ino);
        Ok(dax)
    }

    /// All of it.
    pub const fn size(&self) -> ByteLen {
        self.size
    }

    /// Lends it: a descriptor of the character device, to be mapped from 0 on.
    ///
    /// # Errors
    /// [`LendError`].
    pub fn lend(&mut self) -> Result<OwnedFd, LendError> {
        match self.state {
            State::Lent => Err(LendError::Lent(self.name.clone())),
            State::Dirty | State::Clearing => Err(LendError::NotCleared(self.name.clone())),
            State::Clean => {
                let fd = self.descriptor()?;
                self.state = State::Lent;
                Ok(fd)
            }
        }
    }

    /// Lends it to a lease.
    ///
    /// # Errors
    /// A [`Fault`]: the core lends it to one at a time, so that only a descriptor can be missing.
    pub(super) fn carve(&mut self, region: &RegionName) -> Result<Carved, Fault> {
        let lent = self.lend().map_err(|error| fault(region, "lending the device", in_words(&error)))?;
        Ok(Carved::new(lent, ByteLen::ZERO))
    }

    /// Goes on with a client of an earlier daemon that still has it.
    pub fn is_lent(&mut self) {
        self.state = State::Lent;
    }

    /// Takes it back. Returns whether it was lent.
    pub fn give_back(&mut self) -> bool {
        let was_lent = self.state == State::Lent;
        if was_lent {
            self.state = State::Dirty;
        }
        was_lent
    }

    /// The work that stands between a client and the next one, or before the first; `None` when nothing is to be done, or
    /// somebody is at it. If it fails, the device stays out of use.
    ///
    /// # Errors
    /// [`DaxError::Open`].
    pub fn clearing(&mut self) -> Result<Option<DaxClearing>, DaxError> {
        if self.state != State::Dirty {
            return Ok(None);
        }
        let clearing = DaxClearing { fd: self.descriptor()?, size: self.size };
        self.state = State::Clearing;
        Ok(Some(clearing))
    }

    /// Takes it into use.
    pub fn cleared(&mut self, _: DaxCleared) {
        if self.state == State::Clearing {
            self.state = State::Clean;
        }
    }

    fn descriptor(&self) -> Result<OwnedFd, DaxError> {
        rustix::fs::open(&self.path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| DaxError::Open { path: self.path.clone(), source })
    }
}

impl DaxClearing {
    /// Zeroes all of it, through a mapping of its own. The kernel writes, and not an instruction of this process: a page that
    /// the hardware has given up would kill it.
    ///
    /// # Errors
    /// What `mmap(2)` says; `EFAULT` for such a page.
    pub fn run(self) -> io::Result<DaxCleared> {
        let zeroes = Arc::new(File::open("/dev/zero")?);
        Piece::map(self.fd.as_fd(), self.size, zeroes)?.zero()?;
        Ok(DaxCleared(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use peermem_topology::Dax as Found;

    use super::*;

    const SIZE: ByteLen = ByteLen::new(8192);

    fn device(dev: &Path) -> Result<Dax, DaxError> {
        let name: DeviceName = "dax0.0".parse().unwrap();
        let dax = [(name.clone(), Found { size: SIZE, address: None })].into();
        Dax::open(&Snapshot { dax, ..Snapshot::default() }, dev, name)
    }

    fn clear(dax: &mut Dax) {
        let cleared = dax.clearing().unwrap().unwrap().run().unwrap();
        dax.cleared(cleared);
    }

    #[test]
    fn it_is_lent_to_one_at_a_time_and_zeroed_in_between() {
        let dev = tempfile::tempdir().unwrap();
        let path = dev.path().join("dax0.0");
        fs::write(&path, [0xff; 8192]).unwrap();
        let mut dax = device(dev.path()).unwrap();
        assert!(matches!(dax.lend(), Err(LendError::NotCleared(_))));
        clear(&mut dax);

        let file = fs::File::from(dax.lend().unwrap());
        assert_eq!(fs::read(&path).unwrap(), [0; 8192]);
        file.write_all_at(b"secret", 4096).unwrap();
        assert!(matches!(dax.lend(), Err(LendError::Lent(_))));
        assert!(dax.clearing().unwrap().is_none(), "a client has it");

        assert!(dax.give_back());
        assert!(!dax.give_back());
        assert!(matches!(dax.lend(), Err(LendError::NotCleared(_))));
        clear(&mut dax);
        assert_eq!(fs::read(&path).unwrap(), [0; 8192]);
        dax.lend().unwrap();
    }

    #[test]
    fn nobody_zeroes_it_while_the_next_client_has_it() {
        let dev = tempfile::tempdir().unwrap();
        fs::write(dev.path().join("dax0.0"), [0xff; 8192]).unwrap();
        let mut dax = device(dev.path()).unwrap();
        let clearing = dax.clearing().unwrap().unwrap();
        assert!(dax.clearing().unwrap().is_none(), "it is being zeroed already");
        dax.cleared(clearing.run().unwrap());
        dax.lend().unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let dev = tempfile::tempdir().unwrap();
        let message = device(dev.path()).unwrap_err().to_string();
        assert!(message.contains("dax0.0") && message.contains("device_dax"), "{message}");
        let absent = Dax::open(&Snapshot::default(), dev.path(), "dax7.0".parse().unwrap()).unwrap_err();
        assert!(absent.to_string().contains("no device DAX dax7.0"), "{absent}");
    }
}
