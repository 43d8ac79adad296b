//! The calls of `io.peermem.Broker`: parameters and replies, one pair a call.
//!
//! File descriptors travel beside the message (`SCM_RIGHTS`); a field named `*_fd` is the index of its descriptor
//! among those that came with the same message, as systemd's varlink interfaces have it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Action, DeviceFinding, Direction, DmaAddr, Event, Explanation, Extent, Initiator, Lease, LeaseId,
    PciAddress, RdmaName, Refusal, Region, RegionName, Revocation, Sharing, Token,
    size::{ByteLen, ByteRange},
    status::Status,
};

/// A call: its parameters' type names its method and its reply.
pub trait Call: Serialize + DeserializeOwned {
    /// The full method name.
    const METHOD: &'static str;
    /// What comes back, at once or once an event.
    type Reply: Serialize + DeserializeOwned;
}

macro_rules! calls {
    ($($params:ident => $method:literal -> $reply:ty;)*) => {
        $(impl Call for $params {
            const METHOD: &'static str = concat!("io.peermem.Broker.", $method);
            type Reply = $reply;
        })*
        /// Every method of the interface, by its full name.
        pub const METHODS: &[&str] = &[$(<$params as Call>::METHOD),*];
    };
}

calls! {
    Hello => "Hello" -> HelloReply;
    GetStatus => "GetStatus" -> Status;
    ListRegions => "ListRegions" -> RegionPage;
    ListLeases => "ListLeases" -> LeasePage;
    Map => "Map" -> MapReply;
    Unmap => "Unmap" -> Empty;
    Renew => "Renew" -> RenewReply;
    Delegate => "Delegate" -> DelegateReply;
    Claim => "Claim" -> MapReply;
    Revoke => "Revoke" -> RevokeReply;
    Resume => "Resume" -> ResumeReply;
    Register => "Register" -> RegisterReply;
    Unregister => "Unregister" -> Empty;
    Watch => "Watch" -> WatchReply;
    Explain => "Explain" -> Explanation;
    ReportDevice => "ReportDevice" -> Empty;
    ReportPair => "ReportPair" -> Empty;
}

/// How many devices one mapping may be for.
pub const MOST_INITIATORS: usize = 8;

/// Nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Says which protocol version the client speaks; refused with [`Refusal::UnsupportedVersion`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The version that the client was written for.
    pub protocol: u32,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// The version that both now speak.
    pub protocol: u32,
    /// The daemon's own version.
    pub version: String,
    /// Names the daemon's table of leases: a client that comes back to another table has lost its leases.
    pub instance: String,
}

/// Asks for the daemon's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

/// Asks for one page of the regions, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRegions {
    /// Only names after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RegionName>,
}

/// One page of regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionPage {
    /// In the order of their names.
    pub regions: Vec<Region>,
    /// Whether more follow the last one.
    pub more: bool,
}

/// Asks for one page of the leases, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListLeases {
    /// Only numbers after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<LeaseId>,
}

/// One page of leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasePage {
    /// In the order of their numbers.
    pub leases: Vec<Lease>,
    /// Whether more follow the last one.
    pub more: bool,
}

/// `map_resource`: asks for a mapping of `region` that every one of `initiators` may reach.
///
/// Bytes on their way from a drive to the network pass through memory that two devices touch: both are named, and the
/// mapping is refused unless both get there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// The region.
    pub region: RegionName,
    /// Where the range starts, in a window; absent in a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<ByteLen>,
    /// How many bytes; absent with `offset` absent too: the whole window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<ByteLen>,
    /// The devices that do the DMA: 1 to [`MOST_INITIATORS`].
    pub initiators: Vec<Initiator>,
    /// What those devices do.
    pub direction: Direction,
    /// For how many seconds; absent: for as long as the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_secs: Option<u64>,
    /// Where initiators that the daemon owns shall see the memory; one that isn't named here gets an address that is free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<DmaAddr>,
    /// Which of those initiators the client will drive itself: the reply brings its device's descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drive: Option<PciAddress>,
}

impl Map {
    /// A mapping of `extent`.
    pub fn new(
        region: RegionName,
        extent: Extent,
        initiators: impl IntoIterator<Item = Initiator>,
        direction: Direction,
    ) -> Self {
        let initiators = initiators.into_iter().collect();
        let (offset, length) = match extent {
            Extent::Size(size) => (None, Some(size)),
            Extent::Range(range) => (Some(range.offset()), Some(range.length())),
            Extent::Whole => (None, None),
        };
        Self { region, offset, length, initiators, direction, lease_secs: None, at: Vec::new(), drive: None }
    }

    /// The same for `secs` seconds, unless the lease is renewed.
    #[must_use]
    pub fn for_secs(self, secs: u64) -> Self {
        Self { lease_secs: Some(secs), ..self }
    }

    /// The same at this address of one of the initiators.
    #[must_use]
    pub fn at(mut self, address: DmaAddr) -> Self {
        self.at.push(address);
        self
    }

    /// The same with the descriptor of this initiator's device.
    #[must_use]
    pub fn driving(self, device: PciAddress) -> Self {
        Self { drive: Some(device), ..self }
    }

    /// How many descriptors the reply brings.
    pub fn descriptors(&self) -> usize {
        1 + usize::from(self.drive.is_some())
    }

    /// What is asked for.
    ///
    /// # Errors
    /// [`Refusal::BadExtent`] for an offset without a length, or a range that ends past 2^64 - 1.
    pub fn extent(&self) -> Result<Extent, Refusal> {
        match (self.offset, self.length) {
            (None, Some(size)) => Ok(Extent::Size(size)),
            (None, None) => Ok(Extent::Whole),
            (Some(_), None) => Err(Refusal::BadExtent { why: "an offset needs a length".to_owned() }),
            (Some(offset), Some(length)) => ByteRange::new(offset, length)
                .map(Extent::Range)
                .ok_or_else(|| Refusal::BadExtent { why: "offset + length exceeds 2^64 - 1".to_owned() }),
        }
    }
}

/// A granted mapping. One descriptor comes with it, or two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapReply {
    /// The lease, with method, route and revocation class.
    pub lease: Lease,
    /// The index of the descriptor: a dma-buf for [`crate::Method::Dmabuf`], else something to mmap.
    pub memory_fd: u32,
    /// Where the mapping starts inside the descriptor, in bytes: an offset for mmap or `ibv_reg_dmabuf_mr`.
    pub memory_offset: ByteLen,
    /// The index of the descriptor of the device that the client will drive, where it asked for one ([`Map::drive`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_fd: Option<u32>,
}

/// Gives a lease back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmap {
    /// The lease.
    pub lease: LeaseId,
}

/// Asks for more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The lease.
    pub lease: LeaseId,
    /// For how many seconds from now; absent: for as long as the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_secs: Option<u64>,
}

/// The answer to [`Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewReply {
    /// The lease as it is now.
    pub lease: Lease,
}

/// Makes a token by which another process takes the lease over. The descriptor that the grant brought goes along, and so
/// the claimant gets the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegate {
    /// The lease.
    pub lease: LeaseId,
    /// The index of the memory's descriptor.
    pub memory_fd: u32,
}

/// The answer to [`Delegate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateReply {
    /// What the other process must say.
    pub token: Token,
    /// How many seconds it has. Until the token is used, the lease stays where it is.
    pub expires_in_secs: u64,
}

/// Takes over the lease behind a token, under the caller's own credentials and quota. One descriptor comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// What [`Delegate`] answered.
    pub token: Token,
}

/// Takes a lease from its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The lease.
    pub lease: LeaseId,
}

/// The answer to [`Revoke`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeReply {
    /// Whether the memory has been taken back, or the client was only told.
    pub revocation: Revocation,
    /// What the client must do now; says so where it need do nothing.
    pub client_must: String,
}

/// After the daemon has been restarted: a client's process says which leases and regions it still has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The table of leases that they are from, out of the earlier [`HelloReply`].
    pub instance: String,
    /// The leases, [`MOST_RESUMED`] at most.
    #[serde(default)]
    pub leases: Vec<LeaseId>,
    /// The registered regions, [`MOST_RESUMED`] at most.
    #[serde(default)]
    pub regions: Vec<RegionName>,
}

/// How many leases, and how many regions, one call resumes.
pub const MOST_RESUMED: usize = 500;

/// The answer to [`Resume`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeReply {
    /// The leases that the caller doesn't have any more; all others now hang on this connection.
    pub lost_leases: Vec<LeaseId>,
    /// The regions that the caller doesn't have any more.
    pub lost_regions: Vec<RegionName>,
}

/// Asks what the policy says, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The user.
    pub uid: u32,
    /// The user's groups, 65536 at most.
    #[serde(default)]
    pub gids: Vec<u32>,
    /// What the user would do.
    pub action: Action,
    /// With which region; absent only for [`Action::Watch`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// For which device; a mapping for several is decided for each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<Initiator>,
}

/// Offers a dma-buf of device memory as a region, for as long as this connection lives. One descriptor comes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// What the region shall be called.
    pub name: RegionName,
    /// The PCI function that owns the memory. The kernel doesn't tell whose memory a dma-buf is, so its owner does.
    pub device: PciAddress,
    /// The index of the dma-buf's descriptor.
    pub dmabuf_fd: u32,
    /// Who may map it.
    #[serde(default)]
    pub sharing: Sharing,
}

/// The answer to [`Register`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterReply {
    /// The region as it is now listed.
    pub region: Region,
}

/// Takes a registered region back. Every lease in it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unregister {
    /// The region.
    pub region: RegionName,
}

/// Streams events until the connection closes; call it with `more`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {}

/// One event. The first reply has none: it says that the stream has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchReply {
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
}

/// Tells the daemon what the self-test found of an RDMA device. Root only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportDevice {
    /// The device.
    pub device: RdmaName,
    /// What it does.
    pub found: DeviceFinding,
}

/// Tells the daemon whether bytes arrive between two devices that the kernel lets talk. Root only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportPair {
    /// The PCI function that owns the memory.
    pub provider: PciAddress,
    /// The device that did the DMA.
    pub initiator: Initiator,
    /// What went wrong; absent when every byte arrived, which takes an earlier report back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}
