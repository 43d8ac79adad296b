//! What goes into the state machine and what comes out.

use peermem_proto::{
    ByteLen, ByteRange, Direction, DmaAddr, Event, Initiator, Lease, LeaseId, PciAddress, Region, RegionName,
    Revocation, Token, address::Iova, call, varlink::CallError,
};
use serde::{Deserialize, Serialize};

use super::{Client, Limits, Record, RegionSpec};
use crate::policy::Policy;

/// One connection of a client, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One call that waits for its answer, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a lease's descriptor leads to: two descriptors of the same memory have the same device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemoryId {
    /// `st_dev` of fstat(2).
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Where the lease begins in it, in bytes.
    pub offset: ByteLen,
}

/// What a provider gave for one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// What the lease's descriptor leads to.
    pub memory: MemoryId,
    /// Where it begins in the region; `None` for a provider whose memory has no places, and for windows, whose clients say.
    pub offset: Option<ByteLen>,
    /// Where initiators that the daemon owns see it.
    pub addresses: Vec<DmaAddr>,
}

impl From<MemoryId> for Placed {
    fn from(memory: MemoryId) -> Self {
        Self { memory, offset: None, addresses: Vec::new() }
    }
}

/// What initiators that the daemon owns shall be able to do with a lease's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Which they are, and the addresses that the client wants.
    pub initiators: Vec<(PciAddress, Option<Iova>)>,
    /// What they do.
    pub direction: Direction,
    /// The one whose device the client will drive.
    pub drive: Option<PciAddress>,
    /// The client's user.
    pub uid: u32,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A provider offers a region.
    RegionFound(RegionSpec),
    /// A provider's region is gone.
    RegionLost(RegionName),
    /// Memory of ended leases is back with the provider.
    Recovered(RegionName, ByteLen),
    /// Memory that nobody leases isn't with the provider: others than its clients hold it.
    Missing(RegionName, ByteLen),
    /// A device that memory was mapped for is gone.
    InitiatorLost(Initiator),
    /// A client has connected.
    Connected(SessionId, Client),
    /// A client has closed its connection or died.
    Disconnected(SessionId),
    /// A client that hasn't come back yet after a restart has died.
    Died(Client),
    /// A client asks for a mapping.
    Map(SessionId, Ticket, call::Map),
    /// The shell has carried out [`Effect::Carve`], or failed to.
    Carved(LeaseId, Result<Placed, CallError>),
    /// A grant couldn't be written down, and its client was refused.
    Withdrawn(LeaseId),
    /// A client gives a lease back.
    Unmap(SessionId, Ticket, LeaseId),
    /// A client asks for more time.
    Renew(SessionId, Ticket, call::Renew),
    /// A client wants to pass a lease on, by this fresh token. It has shown this memory.
    Delegate(SessionId, Ticket, LeaseId, MemoryId, Token),
    /// A client wants the lease behind the token.
    Claim(SessionId, Ticket, Token),
    /// A client wants somebody's lease to end.
    Revoke(SessionId, Ticket, LeaseId),
    /// A client has come back after a restart.
    Resume(SessionId, Ticket, call::Resume),
    /// A client offers a region of its own.
    Register(SessionId, Ticket, RegionSpec),
    /// A client takes its region back.
    Unregister(SessionId, Ticket, RegionName),
    /// A client reports what a self-test found of a device that exists.
    DeviceTested(SessionId, Ticket, call::ReportDevice),
    /// A client reports whether bytes arrive between two devices that exist.
    PairTested(SessionId, Ticket, call::ReportPair),
    /// The config was read again.
    Configured(Policy, Limits),
    /// Time has passed: see [`super::Broker::next_deadline`].
    Tick,
    /// No more grants: the daemon is stopping.
    Drain,
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Get this memory from the region's provider, then say [`Input::Carved`].
    Carve {
        /// For this lease.
        lease: LeaseId,
        /// From this region.
        region: RegionName,
        /// In a pool only the length counts.
        range: ByteRange,
        /// Who reaches it by the daemon's doing.
        reach: Reach,
    },
    /// The lease has ended: let go of what was carved for it.
    Release {
        /// The lease.
        lease: LeaseId,
        /// Its region, which may be gone already.
        region: RegionName,
        /// As it was carved.
        range: ByteRange,
    },
    /// Take the memory of this device from everyone who has some: none of its leases is left.
    TakeBack(PciAddress),
    /// Let go of everything that the region's provider holds.
    Close(RegionName),
    /// Let go of the memory that waits behind the token.
    Forget(Token),
    /// Write this down before anything that follows.
    Record(Record),
    /// Answer the call.
    Answer(Ticket, Result<Answer, CallError>),
    /// Tell the watchers.
    Announce(Event),
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A mapping was granted; its descriptor is with the shell.
    Granted(Lease),
    /// A lease has a new end.
    Renewed(Lease),
    /// A token waits to be claimed.
    Delegated(Token),
    /// A lease was revoked.
    Revoked(Revocation),
    /// What wasn't resumed.
    Resumed(call::ResumeReply),
    /// A region was registered.
    Registered(Region),
    /// It was done.
    Done,
}
