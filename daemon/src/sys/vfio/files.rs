//! The files through which VFIO and the IOMMU are reached.

use std::{os::fd::OwnedFd, path::PathBuf};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use thiserror::Error;

/// A file below `/dev` can't be opened.
#[derive(Debug, Error)]
#[error("can't open {}", path.display())]
pub struct NotOpened {
    /// The file.
    pub path: PathBuf,
    /// `ENOENT`: its module isn't loaded, or the function isn't bound to vfio-pci. `EACCES`: the file's mode. `EBUSY`: another
    /// process has the group.
    #[source]
    pub source: Errno,
}

pub(super) fn open(path: PathBuf) -> Result<OwnedFd, NotOpened> {
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| NotOpened { path, source })
}
