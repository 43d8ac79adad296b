//! What goes into the state machine and what comes out.

use peermem_proto::{
    ByteRange, Event, Fault, Lease, LeaseId, Owner, Region, RegionName, call, varlink::CallError,
};

use super::RegionSpec;

/// One connection of a client, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One call that waits for its answer, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A provider offers a region.
    RegionFound(RegionSpec),
    /// A provider's region is gone.
    RegionLost(RegionName),
    /// A client has connected.
    Connected(SessionId, Owner),
    /// A client has closed its connection or died.
    Disconnected(SessionId),
    /// A client asks for a mapping.
    Map(SessionId, Ticket, call::Map),
    /// The shell has carried out [`Effect::Carve`], or failed to.
    Carved(LeaseId, Result<(), Fault>),
    /// A client gives a lease back.
    Unmap(SessionId, Ticket, LeaseId),
    /// A client offers a region of its own.
    Register(SessionId, Ticket, RegionSpec),
    /// A client takes its region back.
    Unregister(SessionId, Ticket, RegionName),
    /// A client reports what a self-test found of a device that exists.
    DeviceTested(SessionId, Ticket, call::ReportDevice),
    /// A client reports whether bytes arrive between two devices that exist.
    PairTested(SessionId, Ticket, call::ReportPair),
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
    },
    /// The lease has ended: let go of what was carved for it.
    Release {
        /// The lease.
        lease: LeaseId,
        /// Its region, which may be gone already.
        region: RegionName,
    },
    /// Let go of everything that the region's provider holds.
    Close(RegionName),
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
    /// A region was registered.
    Registered(Region),
    /// It was done.
    Done,
}
