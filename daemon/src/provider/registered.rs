//! dma-bufs that their owner processes registered: GPU memory above all.
//!
//! The daemon opens no GPU runtime. It keeps a copy of the owner's descriptor while the owner's connection lives, and
//! gives every lease another copy.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use peermem_proto::{ByteLen, Fault, Method, ProviderKind, Refusal, RegionName, Revocation, Shape, call};
use rustix::fs::SeekFrom;

use super::{Carved, fault, fdinfo};
use crate::core::{RegionSpec, Returns};

/// The names of dma-buf exporters whose buffers are device memory (`exp_name`, include/linux/dma-buf.h).
///
/// The kernel doesn't tell where a dma-buf's bytes are, and exporters of plain RAM exist (`udmabuf`, the dma-buf heaps), so
/// only exporters on this list are taken at their word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exporters(pub BTreeSet<String>);

/// A dma-buf, known to come from an exporter of device memory.
#[derive(Debug)]
pub struct Dmabuf {
    fd: OwnedFd,
    size: ByteLen,
}

impl Dmabuf {
    /// Looks at what a client has sent.
    ///
    /// # Errors
    /// [`Refusal::NotDmabuf`] for anything else than a dma-buf, [`Refusal::NotDeviceMemory`] for memory that isn't known
    /// to be a device's, plain memfds included.
    pub fn inspect(fd: OwnedFd, exporters: &Exporters) -> Result<Self, Refusal> {
        let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
        let link = link.to_string_lossy();
        // Shared memory of any kind shows as /memfd:NAME or as a file below /dev/shm.
        if link.starts_with("/memfd:") || link.starts_with("/dev/shm/") {
            return Err(Refusal::NotDeviceMemory { found: format!("host memory, {link}") });
        }
        let Some(exporter) = fdinfo::field(&fd, "exp_name").filter(|_| link.starts_with("/dmabuf:")) else {
            return Err(Refusal::NotDmabuf { found: link.into_owned() });
        };
        if !exporters.0.contains(&exporter) {
            return Err(Refusal::NotDeviceMemory { found: format!("a dma-buf of exporter {exporter}") });
        }
        // dma-bufs tell their size through SEEK_END (dma_buf_llseek, drivers/dma-buf/dma-buf.c).
        let size = rustix::fs::seek(&fd, SeekFrom::End(0)).map_err(|errno| Refusal::NotDmabuf {
            found: format!("{link}, whose size can't be read: {errno}"),
        })?;
        Ok(Self { fd, size: ByteLen::new(size) })
    }

    /// How much memory it is.
    pub fn size(&self) -> ByteLen {
        self.size
    }

    /// The owner's descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn carve(&self, region: &RegionName, offset: ByteLen) -> Result<Carved, Fault> {
        let copy = self.fd.as_fd().try_clone_to_owned();
        copy.map(|fd| Carved::new(fd, offset))
            .map_err(|error| fault(region, "copy the dma-buf's descriptor", error))
    }
}

/// The region that `request` asks for.
pub fn spec(request: &call::Register, dmabuf: &Dmabuf) -> RegionSpec {
    RegionSpec {
        name: request.name.clone(),
        provider: ProviderKind::Registered,
        device: Some(request.device),
        incarnation: 0,
        shape: Shape::Window,
        size: dmabuf.size,
        share: None,
        alignment: ByteLen::from_usize(rustix::param::page_size()),
        method: Method::Dmabuf,
        // The exporter may revoke a dma-buf; the daemon can't make it.
        revocation: Revocation::Advisory,
        sharing: request.sharing,
        returns: Returns::AtOnce,
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    fn inspect(fd: OwnedFd) -> Refusal {
        Dmabuf::inspect(fd, &Exporters(["nvidia".to_owned()].into())).unwrap_err()
    }

    #[test]
    fn host_memory_is_not_device_memory() {
        // A name that tries to look like a dma-buf's.
        let fd = memfd_create("dmabuf:", MemfdFlags::CLOEXEC).unwrap();
        assert!(matches!(inspect(fd), Refusal::NotDeviceMemory { found } if found.contains("memfd")));
    }

    #[test]
    fn other_descriptors_are_told_what_they_are() {
        let file = fs::File::open("/dev/null").unwrap();
        assert_eq!(inspect(file.into()), Refusal::NotDmabuf { found: "/dev/null".to_owned() });
        let (read, write) = std::io::pipe().unwrap();
        drop(write);
        assert!(matches!(inspect(read.into()), Refusal::NotDmabuf { found } if found.starts_with("pipe:")));
    }
}
