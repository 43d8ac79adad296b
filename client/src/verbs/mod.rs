//! Verbs without `unsafe`: devices, protection domains, memory regions, queue pairs, completions.
//!
//! * **Ownership.** A child holds its parent by [`Arc`](std::sync::Arc), so nothing is destroyed under something that
//!   uses it. Dropping never panics; `close(self)` reports what dropping would have to swallow.
//! * **Memory.** Device memory is pointers and lengths, never a slice: devices write to it while it is read. A
//!   [`MemoryRegion`] owns a [`Backing`], which keeps the mapping alive.
//! * **Work requests.** A [`QueuePair`] posts ranges of memory regions ([`MrSlice`]), checked against their bounds, and
//!   keeps each region alive until its completion was polled or the queue pair is gone. A batch has one doorbell, and one completion.
//! * **Absence.** Without libibverbs every entry point answers with a [`DeviceError`] that says what to install.
//!
//! Only reliable-connected (RC) queue pairs are here.
#![allow(unsafe_code, reason = "the boundary to libibverbs; nothing outside this module needs it")]

#[cfg(feature = "async")]
mod async_channel;
mod completion;
mod context;
mod cq;
mod device;
mod event;
mod gid;
mod handle;
mod memory;
mod mr;
mod number;
mod odp;
mod outstanding;
mod pd;
mod port;
mod post;
mod qp;
mod register_error;
mod udmabuf;

#[cfg(feature = "async")]
pub use async_channel::AsyncChannel;
pub use completion::{Completion, Done, WorkError, WorkKind, WorkStatus};
pub use context::{Context, DeviceAttributes};
pub use cq::{CompletionChannel, CompletionError, CompletionQueue};
pub use device::{Device, DeviceError, Transport};
pub use event::{AsyncEvent, AsyncEventKind};
pub use gid::{Gid, GidEntry, GidKind};
pub use handle::CloseError;
pub use memory::{Backing, Memory, MemoryError};
pub use mr::{Access, DmabufRange, MemoryRegion, MrSlice, OutOfBounds};
pub use number::{Guid, Lkey, Mtu, MtuError, Psn, Qpn, Rkey, WorkId};
pub use odp::{OdpCaps, OdpTransport};
pub use pd::ProtectionDomain;
pub use port::{LinkLayer, PortAttributes, PortState};
pub use post::{PostError, RemoteTarget, Work};
pub use qp::{Path, PreparedQueuePair, QpAddress, QpDepth, QpError, QueuePair};
pub use register_error::RegisterError;
pub use udmabuf::{HostDmabuf, HostDmabufError};
