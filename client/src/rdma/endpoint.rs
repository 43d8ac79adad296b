//! A connection to one peer: one reliable-connected queue pair, set up over TCP.

use std::{net::TcpStream, sync::Arc, time::Instant};

use peermem_proto::{ByteLen, Method};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    constraint::PageAligned,
    exchange::{self, ExchangeError},
    port::LocalPort,
    probe::{self, PortError, ProbeError},
    quirks::{Quirks, Unusable, page_size},
    remote::{RemoteRegion, RemoteRegionError},
};
use crate::verbs::{
    CompletionChannel, CompletionQueue, DeviceError, MrSlice, Mtu, PreparedQueuePair, ProtectionDomain,
    QpAddress, QpDepth, QpError, QueuePair,
};

/// The greeting that this release sends and understands.
const VERSION: u32 = 1;

/// How to connect. The default suits a device with one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The device's port, counted from 1.
    pub port: u8,
    /// The GID to be addressed by; `None` chooses RoCE v2 over IPv4, else the first valid one.
    pub gid_index: Option<u8>,
    /// Messages in flight at a time; the device may have room for fewer.
    pub depth: u32,
    /// Receives for what the peer sends ([`Messages`](super::Messages)); the device may have room for fewer.
    pub receives: u32,
    /// The longest message. Longer transfers are split; the port may allow less.
    pub max_message: ByteLen,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self { port: 1, gid_index: None, depth: 16, receives: 16, max_message: ByteLen::new(1 << 20) }
    }
}

/// Why two endpoints aren't connected.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The port can't be used.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The device refused something.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device moves wrong bytes even between pinned memory.
    #[error("the device failed its self-test")]
    SelfTest(#[source] ProbeError),
    /// The queue pair can't be made or connected.
    #[error(transparent)]
    QueuePair(#[from] QpError),
    /// The peers couldn't talk over TCP.
    #[error("queue pair addresses can't be exchanged")]
    Exchange(#[from] ExchangeError),
    /// The peer runs another release.
    #[error("the peer speaks version {theirs}, this side version {VERSION}")]
    Version {
        /// What the peer sent.
        theirs: u64,
    },
}

/// What each side tells the other first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    version: u32,
    address: QpAddress,
    /// The largest path MTU that this side's network carries.
    mtu: Mtu,
    /// RDMA reads that this side answers at a time.
    reads_answered: u8,
}

/// What each side says once it can receive: a request that came earlier would be lost and repeated after a timeout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    ready: bool,
}

/// An endpoint that isn't connected yet.
#[derive(Debug)]
pub struct PreparedEndpoint {
    qp: PreparedQueuePair,
    queue: Arc<CompletionQueue>,
    port: LocalPort,
    config: EndpointConfig,
    greeting: Greeting,
    reads_started: u8,
    quirks: Result<Arc<Quirks>, ProbeError>,
}

impl PreparedEndpoint {
    /// Makes a queue pair in `pd`, whose members the peer will be able to reach by key. The first endpoint of a process on
    /// a device runs the device's self-test.
    ///
    /// # Errors
    ///
    /// [`EndpointError`]. A self-test that couldn't run is no error here: it only rules on-demand regions out.
    pub fn new(pd: &Arc<ProtectionDomain>, config: EndpointConfig) -> Result<Self, EndpointError> {
        let port = LocalPort::find(pd.context(), config.port, config.gid_index)?;
        let quirks = match probe::quirks(pd.context(), config.port) {
            Err(wrong @ ProbeError::PinnedIsWrong { .. }) => return Err(EndpointError::SelfTest(wrong)),
            known_or_unknown => known_or_unknown,
        };
        let limits = pd.context().attributes()?;
        let [depth, receives] =
            [config.depth, config.receives].map(|wanted| wanted.clamp(1, limits.max_qp_wr.max(1)));
        let config = EndpointConfig { depth, receives, ..config };
        let channel = CompletionChannel::new(pd.context())?;
        let queue = CompletionQueue::new(&channel, depth.saturating_add(receives))?;
        let depth = QpDepth { send: depth, receive: receives };
        let qp = PreparedQueuePair::new(pd, &queue, config.port, depth)?;
        let greeting = Greeting {
            version: VERSION,
            address: port.address(&qp),
            mtu: port.mtu,
            reads_answered: limits.max_qp_rd_atom,
        };
        Ok(Self { qp, queue, port, config, greeting, reads_started: limits.max_qp_init_rd_atom, quirks })
    }

    /// Connects to the endpoint at the other end of `stream`, which does the same. The stream stays usable, for instance
    /// to exchange [`RemoteRegion`]s.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn connect(self, stream: &TcpStream, deadline: Instant) -> Result<Endpoint, EndpointError> {
        exchange::send(stream, &self.greeting, deadline)?;
        let greeting = exchange::receive(stream, deadline)?;
        let endpoint = self.establish(understand(greeting)?)?;
        exchange::send(stream, &Ready { ready: true }, deadline)?;
        exchange::receive::<Ready>(stream, deadline)?;
        Ok(endpoint)
    }

    /// As [`connect`](Self::connect), without blocking a thread.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    #[cfg(feature = "async")]
    pub async fn connect_async(
        self,
        stream: &mut tokio::net::TcpStream,
        deadline: Instant,
    ) -> Result<Endpoint, EndpointError> {
        exchange::send_async(stream, &self.greeting, deadline).await?;
        let greeting = exchange::receive_async(stream, deadline).await?;
        let endpoint = self.establish(understand(greeting)?)?;
        exchange::send_async(stream, &Ready { ready: true }, deadline).await?;
        exchange::receive_async::<Ready>(stream, deadline).await?;
        Ok(endpoint)
    }

    fn establish(self, peer: Greeting) -> Result<Endpoint, EndpointError> {
        let mtu = self.port.mtu.min(peer.mtu);
        let reads_started = self.reads_started.min(peer.reads_answered);
        let path = self.port.path(mtu, reads_started, self.greeting.reads_answered);
        let qp = self.qp.connect(&path, &peer.address)?;
        Ok(Endpoint {
            qp: Some(qp),
            queue: self.queue,
            mtu,
            message: message_length(self.config.max_message.min(self.port.attributes.max_message)),
            depth: self.config.depth,
            receives: self.config.receives,
            quirks: self.quirks,
        })
    }
}

/// The longest message up to `wanted` whose end is a page boundary if its start is one, with this machine's pages or the
/// peer's.
fn message_length(wanted: ByteLen) -> ByteLen {
    /// A work request's length has 32 bits.
    const LONGEST: u64 = 1 << 30;
    let page = u64::from(page_size()).max(1 << 16);
    let longest = wanted.get().min(LONGEST);
    ByteLen::new((longest - longest % page).max(page))
}

/// The version is looked at before the rest, which another version may have changed.
fn understand(greeting: serde_json::Value) -> Result<Greeting, EndpointError> {
    let version = greeting.get("version").and_then(serde_json::Value::as_u64);
    match version {
        Some(theirs) if theirs != u64::from(VERSION) => Err(EndpointError::Version { theirs }),
        _ => serde_json::from_value(greeting).map_err(|error| ExchangeError::Unexpected(error).into()),
    }
}

/// A connected endpoint. One transfer at a time.
///
/// A transfer that fails or is cancelled ends the connection: its queue pair is destroyed, so that when the error is
/// returned no byte of the local memory moves any more.
#[derive(Debug)]
pub struct Endpoint {
    /// `None` after a failed transfer.
    pub(super) qp: Option<QueuePair>,
    pub(super) queue: Arc<CompletionQueue>,
    pub(super) mtu: Mtu,
    pub(super) message: ByteLen,
    pub(super) depth: u32,
    pub(super) receives: u32,
    pub(super) quirks: Result<Arc<Quirks>, ProbeError>,
}

impl Endpoint {
    /// The path MTU that both sides agreed on.
    pub fn path_mtu(&self) -> Mtu {
        self.mtu
    }

    /// How many messages may be under way at a time.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// How many receives there is room for.
    pub fn receives(&self) -> u32 {
        self.receives
    }

    /// What is known of the local device.
    ///
    /// # Errors
    ///
    /// Why its self-test couldn't run.
    pub fn quirks(&self) -> Result<&Arc<Quirks>, &ProbeError> {
        self.quirks.as_ref()
    }

    /// Whether no transfer has failed yet.
    pub fn is_connected(&self) -> bool {
        self.qp.is_some()
    }

    /// Describes local memory to the peer.
    ///
    /// # Errors
    ///
    /// [`RemoteRegionError`].
    pub fn describe(&self, slice: &MrSlice) -> Result<RemoteRegion, RemoteRegionError> {
        RemoteRegion::new(slice, self.constraint(slice.region().method())?)
    }

    /// What transfers have to keep to for local regions of `method`.
    pub(super) fn constraint(&self, method: Method) -> Result<Option<PageAligned>, Unusable> {
        match (&self.quirks, method) {
            (Ok(quirks), _) => quirks.constraint(method),
            (Err(error), Method::OnDemand) => Err(Unusable::Untested(error.clone())),
            (Err(_), Method::Pinned | Method::Dmabuf) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> serde_json::Value {
        serde_json::json!({
            "version": 1,
            "address": {"qpn": 17, "psn": 99, "gid": "::ffff:10.0.2.15", "lid": 0},
            "mtu": 4096,
            "reads_answered": 16,
        })
    }

    #[test]
    fn messages_end_at_page_boundaries() {
        for (wanted, length) in
            [(0, 65536), (1 << 20, 1 << 20), ((1 << 20) + 1, 1 << 20), (u64::MAX, 1 << 30)]
        {
            assert_eq!(message_length(ByteLen::new(wanted)), ByteLen::new(length));
        }
    }

    #[test]
    fn another_version_is_named_whatever_else_it_says() {
        let newer = serde_json::json!({"version": 2, "anything": []});
        let error = understand(newer).unwrap_err();
        assert!(matches!(error, EndpointError::Version { theirs: 2 }), "{error}");
    }

    #[test]
    fn a_greeting_is_understood_or_refused() {
        assert_eq!(understand(greeting()).unwrap().mtu, Mtu::Bytes4096);
        for (key, wrong) in [("mtu", 1500), ("reads_answered", 256), ("version", -1), ("more", 0)] {
            let mut greeting = greeting();
            greeting[key] = wrong.into();
            assert!(understand(greeting).is_err(), "{key} = {wrong} was accepted");
        }
        let mut greeting = greeting();
        greeting["address"]["qpn"] = (1 << 24).into();
        assert!(understand(greeting).is_err());
    }
}
