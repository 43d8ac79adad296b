//! Asynchronous events: what happens to a device apart from work requests.

use std::fmt;

use peermem_verbs_sys as sys;

use super::{Context, DeviceError, number::Qpn};
use crate::errno::Errno;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncEventKind {
    /// A completion queue overflowed, or its device failed.
    CompletionQueueError,
    /// A queue pair went to its error state, for a reason that no completion can tell.
    QueuePairFatal,
    /// A peer sent a request that the queue pair can't take.
    QueuePairRequestError,
    /// A peer's request violated access rights.
    QueuePairAccessError,
    /// The last receive of a failed queue pair was consumed.
    LastWorkRequestReached,
    /// A first packet arrived before the queue pair was ready to send.
    Established,
    /// The device is unusable from here on.
    DeviceFatal,
    /// A port came up.
    PortActive,
    /// A port went down.
    PortError,
    /// A port's GID table changed.
    GidChange,
    /// Any other, by its number in `enum ibv_event_type`.
    Other(u32),
}

/// An event, and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncEvent {
    /// What happened.
    pub kind: AsyncEventKind,
    /// The queue pair, for those that name one.
    pub qpn: Option<Qpn>,
    /// The port, for those that name one.
    pub port: Option<u8>,
}

impl AsyncEventKind {
    fn from_abi(raw: sys::ibv_event_type) -> Self {
        match raw {
            sys::IBV_EVENT_CQ_ERR => Self::CompletionQueueError,
            sys::IBV_EVENT_QP_FATAL => Self::QueuePairFatal,
            sys::IBV_EVENT_QP_REQ_ERR => Self::QueuePairRequestError,
            sys::IBV_EVENT_QP_ACCESS_ERR => Self::QueuePairAccessError,
            sys::IBV_EVENT_QP_LAST_WQE_REACHED => Self::LastWorkRequestReached,
            sys::IBV_EVENT_COMM_EST => Self::Established,
            sys::IBV_EVENT_DEVICE_FATAL => Self::DeviceFatal,
            sys::IBV_EVENT_PORT_ACTIVE => Self::PortActive,
            sys::IBV_EVENT_PORT_ERR => Self::PortError,
            sys::IBV_EVENT_GID_CHANGE => Self::GidChange,
            other => Self::Other(other),
        }
    }

    const fn is_about_a_queue_pair(self) -> bool {
        matches!(
            self,
            Self::QueuePairFatal
                | Self::QueuePairRequestError
                | Self::QueuePairAccessError
                | Self::LastWorkRequestReached
                | Self::Established
        )
    }
}

impl fmt::Display for AsyncEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CompletionQueueError => "completion queue error",
            Self::QueuePairFatal => "queue pair failed",
            Self::QueuePairRequestError => "invalid request from the peer",
            Self::QueuePairAccessError => "access violation by the peer",
            Self::LastWorkRequestReached => "last receive consumed",
            Self::Established => "first packet arrived",
            Self::DeviceFatal => "device failed",
            Self::PortActive => "port up",
            Self::PortError => "port down",
            Self::GidChange => "GID table changed",
            Self::Other(number) => return write!(f, "event {number}"),
        })
    }
}

impl Context {
    /// Takes one asynchronous event, if there is one. The context's fd is readable when there is.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Operation`].
    pub fn next_event(&self) -> Result<Option<AsyncEvent>, DeviceError> {
        let mut raw = sys::ibv_async_event::zeroed();
        // SAFETY: the context is open.
        if unsafe { (self.verbs.ibv_get_async_event)(self.handle.as_ptr(), &raw mut raw) } != 0 {
            return match Errno::last() {
                errno if errno.name() == Some("EAGAIN") => Ok(None),
                errno => Err(self.failed("ibv_get_async_event")(errno)),
            };
        }
        let kind = AsyncEventKind::from_abi(raw.event_type);
        let mut event = AsyncEvent { kind, qpn: None, port: None };
        if kind.is_about_a_queue_pair() {
            // SAFETY: this kind of event holds a queue pair.
            let qp = unsafe { raw.element.qp };
            // SAFETY: a queue pair whose event was taken can't be destroyed before the acknowledgement below.
            event.qpn = Qpn::new(unsafe { (*qp).qp_num });
        } else if matches!(
            kind,
            AsyncEventKind::PortActive | AsyncEventKind::PortError | AsyncEventKind::GidChange
        ) {
            // SAFETY: this kind of event holds a port number.
            event.port = u8::try_from(unsafe { raw.element.port_num }).ok();
        }
        // SAFETY: the event was just taken, and is acknowledged once.
        unsafe { (self.verbs.ibv_ack_async_event)(&raw mut raw) };
        Ok(Some(event))
    }
}
