//! Every *no* that the daemon says, with a stable code and its reason in words.
//!
//! A [`Refusal`] is a decision: the daemon is well, and asking again the same way ends the same way. A
//! [`Fault`](crate::Fault) is something that failed below it. On the wire both are varlink errors: the code is the error's name, the fields are
//! its parameters, and `message` holds the sentence.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    action::Action,
    address::Iova,
    device::Initiator,
    id::{LeaseId, RegionName},
    lease::Revoked,
    mapping::Method,
    pci::PciAddress,
    size::ByteLen,
};

/// A decision against the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Refusal {
    /// The client was written for a protocol that this daemon doesn't speak.
    #[error("protocol version {requested} isn't spoken here, only {supported}: update the older side")]
    #[serde(rename = "io.peermem.Broker.UnsupportedVersion")]
    UnsupportedVersion {
        /// The client's version.
        requested: u32,
        /// The daemon's version.
        supported: u32,
    },
    /// No such region.
    #[error("no region is named {region}: `peermemctl regions` lists them")]
    #[serde(rename = "io.peermem.Broker.UnknownRegion")]
    UnknownRegion {
        /// The name asked for.
        region: RegionName,
    },
    /// No such lease, or it has ended.
    #[error("lease {lease} doesn't exist, or has ended")]
    #[serde(rename = "io.peermem.Broker.UnknownLease")]
    UnknownLease {
        /// The number asked for.
        lease: LeaseId,
    },
    /// No such device on this node.
    #[error("{initiator} isn't on this node: see /sys/class/infiniband and /sys/bus/pci/devices")]
    #[serde(rename = "io.peermem.Broker.UnknownInitiator")]
    UnknownInitiator {
        /// The initiator asked for.
        initiator: Initiator,
    },
    /// No such PCI function on this node.
    #[error("PCI function {device} isn't on this node: see /sys/bus/pci/devices")]
    #[serde(rename = "io.peermem.Broker.UnknownDevice")]
    UnknownDevice {
        /// The address asked for.
        device: PciAddress,
    },
    /// Somebody else's lease or region.
    #[error("{what} belongs to another client")]
    #[serde(rename = "io.peermem.Broker.NotYours")]
    NotYours {
        /// `lease 7`, `region gpu0`.
        what: String,
    },
    /// A mapping of no bytes.
    #[error("a mapping of 0 bytes of {region} was asked for: give a length of at least {alignment}")]
    #[serde(rename = "io.peermem.Broker.ZeroLength")]
    ZeroLength {
        /// The region.
        region: RegionName,
        /// The smallest length, in bytes.
        alignment: ByteLen,
    },
    /// An offset or length that isn't a multiple of the page size.
    #[error("{field} {value} isn't a multiple of {alignment}, the alignment of region {region}")]
    #[serde(rename = "io.peermem.Broker.NotAligned")]
    NotAligned {
        /// The region.
        region: RegionName,
        /// `offset` or `length`.
        field: String,
        /// What was given, in bytes.
        value: ByteLen,
        /// What it must be a multiple of, in bytes.
        alignment: ByteLen,
    },
    /// A mapping for no device, or for too many.
    #[error("a mapping is for 1 to {most} initiators, and {got} were named")]
    #[serde(rename = "io.peermem.Broker.InitiatorCount")]
    InitiatorCount {
        /// How many were named.
        got: u32,
        /// How many may be.
        most: u32,
    },
    /// The extent makes no sense for this region.
    #[error("the extent can't be mapped: {why}")]
    #[serde(rename = "io.peermem.Broker.BadExtent")]
    BadExtent {
        /// Why.
        why: String,
    },
    /// The pool has less than that.
    #[error("{requested} of region {region} were asked for and {free} are free")]
    #[serde(rename = "io.peermem.Broker.NotEnoughSpace")]
    NotEnoughSpace {
        /// The region.
        region: RegionName,
        /// Bytes asked for.
        requested: ByteLen,
        /// Bytes free.
        free: ByteLen,
    },
    /// The pool has as much, and not in one piece.
    #[error(
        "{requested} of region {region} were asked for, and the largest free piece has {largest}: others' leases are in \
         between"
    )]
    #[serde(rename = "io.peermem.Broker.Fragmented")]
    Fragmented {
        /// The region.
        region: RegionName,
        /// Bytes asked for.
        requested: ByteLen,
        /// Bytes of the largest free piece.
        largest: ByteLen,
    },
    /// The config names the region, and the daemon can't take its memory.
    #[error("region {region} isn't served: {why}")]
    #[serde(rename = "io.peermem.Broker.NotServed")]
    NotServed {
        /// The region.
        region: RegionName,
        /// What stands in the way.
        why: String,
    },
    /// The config names the region, and its BAR isn't memory.
    #[error("region {region} isn't served: {why}")]
    #[serde(rename = "io.peermem.Broker.RegisterBar")]
    RegisterBar {
        /// The region.
        region: RegionName,
        /// How one sees that there are registers.
        why: String,
    },
    /// The daemon doesn't map memory for this function.
    #[error("nothing is mapped for {initiator}: {why}")]
    #[serde(rename = "io.peermem.Broker.InitiatorNotServed")]
    InitiatorNotServed {
        /// The initiator.
        initiator: Initiator,
        /// What stands in the way.
        why: String,
    },
    /// No IOMMU translates what the initiator emits.
    #[error("nothing is mapped for {initiator}: {why}")]
    #[serde(rename = "io.peermem.Broker.NoIommu")]
    NoIommu {
        /// The initiator.
        initiator: Initiator,
        /// What to do.
        why: String,
    },
    /// The IOMMU can't tell the initiator from other functions.
    #[error("nothing is mapped for {initiator}: {why}")]
    #[serde(rename = "io.peermem.Broker.SharedGroup")]
    SharedGroup {
        /// The initiator.
        initiator: Initiator,
        /// The other members of its IOMMU group.
        others: Vec<PciAddress>,
        /// What follows from that.
        why: String,
    },
    /// Another user drives the initiator, or has memory mapped for it.
    #[error(
        "{initiator} is in another user's hands: whoever drives it reaches all that is mapped for it. Ask again when they have \
         closed it and given their leases back"
    )]
    #[serde(rename = "io.peermem.Broker.InitiatorTaken")]
    InitiatorTaken {
        /// The initiator.
        initiator: Initiator,
    },
    /// Something is mapped at the address that was asked for.
    #[error("{length} at {iova} of {initiator} overlap what is mapped at {taken}")]
    #[serde(rename = "io.peermem.Broker.AddressTaken")]
    AddressTaken {
        /// The initiator.
        initiator: Initiator,
        /// The address.
        iova: Iova,
        /// Bytes to be mapped there.
        length: ByteLen,
        /// Where the mapping in the way begins.
        taken: Iova,
    },
    /// The IOMMU doesn't translate the address that was asked for, or the initiator can't emit it.
    #[error(
        "{length} at {iova} of {initiator} can't be mapped: outside of what the IOMMU translates, reserved (interrupts), or \
         beyond the initiator's address bits"
    )]
    #[serde(rename = "io.peermem.Broker.AddressReserved")]
    AddressReserved {
        /// The initiator.
        initiator: Initiator,
        /// The address.
        iova: Iova,
        /// Bytes to be mapped there.
        length: ByteLen,
    },
    /// The initiator's addresses are used up.
    #[error("{initiator} has no {length} of free addresses in one piece: the largest has {largest}")]
    #[serde(rename = "io.peermem.Broker.AddressesUsedUp")]
    AddressesUsedUp {
        /// The initiator.
        initiator: Initiator,
        /// Bytes to be mapped.
        length: ByteLen,
        /// The largest free piece.
        largest: ByteLen,
    },
    /// The kernel allows the initiator no more mappings.
    #[error("{initiator} has as many mappings as the kernel allows (dma_entry_limit of vfio_iommu_type1)")]
    #[serde(rename = "io.peermem.Broker.MappingsUsedUp")]
    MappingsUsedUp {
        /// The initiator.
        initiator: Initiator,
    },
    /// The range leaves the window.
    #[error("the range ends at byte {end} and region {region} has {size}")]
    #[serde(rename = "io.peermem.Broker.OutOfRange")]
    OutOfRange {
        /// The region.
        region: RegionName,
        /// One past the range's last byte.
        end: u64,
        /// The region's size in bytes.
        size: ByteLen,
    },
    /// The initiator can't reach the memory.
    #[error("{initiator} can't reach region {region}: {why}")]
    #[serde(rename = "io.peermem.Broker.NoRoute")]
    NoRoute {
        /// The region.
        region: RegionName,
        /// The initiator.
        initiator: Initiator,
        /// What stands between them, and what to do.
        why: String,
    },
    /// The kernel would accept the pair, and the self-test found that bytes don't arrive.
    #[error(
        "{initiator} can't reach region {region}, although the kernel accepts it: {found}. \
             `peermemctl selftest --pairs --report` tests again"
    )]
    #[serde(rename = "io.peermem.Broker.BytesLost")]
    BytesLost {
        /// The region.
        region: RegionName,
        /// The initiator.
        initiator: Initiator,
        /// What the self-test found.
        found: String,
    },
    /// The memory can't become an MR of this device.
    #[error("region {region} can't become a memory region of {initiator} by {method}: {why}")]
    #[serde(rename = "io.peermem.Broker.NoMethod")]
    NoMethod {
        /// The region.
        region: RegionName,
        /// The initiator.
        initiator: Initiator,
        /// The only way that the region offers.
        method: Method,
        /// What the device lacks, and what has it.
        why: String,
    },
    /// Only root may do that.
    #[error("only root may {what}")]
    #[serde(rename = "io.peermem.Broker.RootOnly")]
    RootOnly {
        /// `report what a self-test found`.
        what: String,
    },
    /// The name is taken.
    #[error("a region named {region} exists already: choose another name")]
    #[serde(rename = "io.peermem.Broker.RegionExists")]
    RegionExists {
        /// The name.
        region: RegionName,
    },
    /// A registered descriptor is something else than a dma-buf.
    #[error("the descriptor isn't a dma-buf but {found}: export the memory as a dma-buf and register that")]
    #[serde(rename = "io.peermem.Broker.NotDmabuf")]
    NotDmabuf {
        /// What it is instead.
        found: String,
    },
    /// Memory that isn't known to be a device's.
    #[error(
        "this is not known to be device memory ({found}): mapping RAM as peer memory isn't permitted. A dma-buf \
         exporter that does export device memory can be named in `registered.exporters` of the daemon's config"
    )]
    #[serde(rename = "io.peermem.Broker.NotDeviceMemory")]
    NotDeviceMemory {
        /// What it is.
        found: String,
    },
    /// The number of descriptors that came with the call isn't the one it takes.
    #[error("{got} file descriptors came with this call, which takes {expected}; all were closed")]
    #[serde(rename = "io.peermem.Broker.WrongDescriptorCount")]
    WrongDescriptorCount {
        /// How many came.
        got: u32,
        /// How many the call takes.
        expected: u32,
    },
    /// A bound on what one user or one connection may hold.
    #[error("{what} are limited to {limit}: give some back, or raise `limits.{key}` in the daemon's config")]
    #[serde(rename = "io.peermem.Broker.LimitReached")]
    LimitReached {
        /// What is limited, in words.
        what: String,
        /// The key in the config's `limits` table.
        key: String,
        /// How many.
        limit: u64,
    },
    /// The policy says no.
    #[error("{why}")]
    #[serde(rename = "io.peermem.Broker.NotAllowed")]
    NotAllowed {
        /// What was tried.
        action: Action,
        /// The region, where the action is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<RegionName>,
        /// The rule that refused; absent where no rule fits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// The decision in words, and what to do.
        why: String,
    },
    /// The user has as much as a rule of the policy lets them have.
    #[error(
        "rule {rule} of the policy limits the {what} of user {uid} to {limit}, {held} are held and {asked} more were asked \
         for: give some back, or have the rule changed"
    )]
    #[serde(rename = "io.peermem.Broker.OverQuota")]
    OverQuota {
        /// The rule.
        rule: String,
        /// `bytes` or `leases`.
        what: String,
        /// The user.
        uid: u32,
        /// How many the user has.
        held: u64,
        /// How many more were asked for.
        asked: u64,
        /// How many the user may have.
        limit: u64,
    },
    /// The lease would be longer than a rule of the policy allows.
    #[error(
        "rule {rule} of the policy grants leases of {longest_secs} s at most, and {asked_secs} s were asked for"
    )]
    #[serde(rename = "io.peermem.Broker.LeaseTooLong")]
    LeaseTooLong {
        /// The rule.
        rule: String,
        /// Seconds asked for.
        asked_secs: u64,
        /// Seconds allowed.
        longest_secs: u64,
    },
    /// The lease has been revoked: it can only be given back.
    #[error(
        "lease {lease} has been revoked ({reason}): drop its memory regions and mappings, and give it back"
    )]
    #[serde(rename = "io.peermem.Broker.LeaseRevoked")]
    LeaseRevoked {
        /// The lease.
        lease: LeaseId,
        /// Why.
        reason: Revoked,
    },
    /// No lease waits behind this token.
    #[error(
        "no lease waits behind this token: it was used, has expired, or its lease has ended. Ask for another one"
    )]
    #[serde(rename = "io.peermem.Broker.UnknownToken")]
    UnknownToken {},
    /// The descriptor that came along isn't the one that was granted.
    #[error(
        "the descriptor that came along isn't the memory of lease {lease}: send the one that the grant brought, or a copy"
    )]
    #[serde(rename = "io.peermem.Broker.NotTheMemory")]
    NotTheMemory {
        /// The lease.
        lease: LeaseId,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping and grants nothing more: try again when it is back")]
    #[serde(rename = "io.peermem.Broker.Draining")]
    Draining {},
    /// The watcher read too slowly, and events were lost: list again, then watch again.
    #[error("{lost} events were lost because this watcher reads too slowly: list again, then watch again")]
    #[serde(rename = "io.peermem.Broker.WatcherTooSlow")]
    WatcherTooSlow {
        /// How many events were dropped.
        lost: u64,
    },
}
