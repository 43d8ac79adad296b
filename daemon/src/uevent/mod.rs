//! Devices that come and go, as the kernel tells of them: uevents, over netlink (`lib/kobject_uevent.c`).
//!
//! The kernel's own messages are read, group 1, and not those that udev sends on: they come at once and without udev. They
//! need no privilege, only `AF_NETLINK`, and aren't sent into user namespaces other than the first. One unplugging makes many
//! of them; who acts on them waits until they cease.

use std::{
    io::{self, IoSliceMut},
    os::fd::BorrowedFd,
};

use peermem_proto::{PciAddress, RdmaName};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        recvmsg, socket_with,
    },
};

use crate::sys::Readable;

mod message;

/// The multicast group of the kernel's messages; udev's is 2.
const KERNEL_GROUP: u32 = 1;

/// Larger than any message of the kernel's: its variables have 2048 bytes, the device's path stands before them.
const MAX_MESSAGE: usize = 8 << 10;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A PCI function.
    Pci {
        /// Which one.
        address: PciAddress,
        /// What happened to it.
        action: PciAction,
    },
    /// An RDMA device.
    Rdma {
        /// Its name, after what happened.
        name: RdmaName,
        /// What happened to it.
        action: RdmaAction,
    },
    /// More came than the socket could hold, and nobody knows what: look at everything again.
    Lost,
}

/// What happens to a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PciAction {
    /// It was found.
    Add,
    /// It is gone.
    Remove,
    /// A driver has it now.
    Bind,
    /// Its driver has let go of it.
    Unbind,
    /// Something else about it has changed.
    Change,
}

/// What happens to an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RdmaAction {
    /// It was registered.
    Add,
    /// It is gone.
    Remove,
    /// It has another name; udev does that to new devices.
    Rename {
        /// The name before.
        from: RdmaName,
    },
}

/// The source of changes, from when it was opened.
#[derive(Debug)]
pub struct Uevents {
    socket: Readable,
    message: Box<[u8]>,
}

impl Uevents {
    /// Begins to listen.
    ///
    /// # Errors
    /// What `socket(2)` and `bind(2)` say: `EAFNOSUPPORT` where a sandbox forbids netlink.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { socket: Readable::new(socket)?, message: vec![0; MAX_MESSAGE].into() })
    }

    /// Waits for the next change. No change is lost where this future is dropped before it is ready.
    ///
    /// # Errors
    /// When the runtime is shutting down, or `recvmsg(2)` fails in a way that isn't known to pass.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            let received = self.socket.read_with(|socket| receive(socket, &mut self.message)).await;
            let message = match received {
                Ok(Some(length)) => &self.message[..length],
                Ok(None) => continue,
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    return Ok(Change::Lost);
                }
                Err(error) => return Err(error),
            };
            match message::parse(message) {
                Ok(Some(change)) => return Ok(change),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, message = %message.escape_ascii(), "ignoring a uevent"),
            }
        }
    }
}

/// Receives one message and returns its length; `None` for one that doesn't count.
fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Option<usize>> {
    let mut no_control = RecvAncillaryBuffer::default();
    let received = recvmsg(socket, &mut [IoSliceMut::new(into)], &mut no_control, RecvFlags::empty())?;
    let sender = received.address.and_then(|address| SocketAddrNetlink::try_from(address).ok());
    // A process with CAP_NET_ADMIN may send to the group, but not from port 0.
    if !sender.is_some_and(|sender| sender.pid() == 0 && sender.groups() == KERNEL_GROUP) {
        tracing::debug!(?sender, "ignoring a uevent that isn't the kernel's");
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        tracing::debug!("ignoring a uevent of more than {MAX_MESSAGE} bytes");
        return Ok(None);
    }
    Ok(Some(received.bytes))
}
