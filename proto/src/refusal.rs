//! Every *no* that the daemon says, with a stable code and its reason in words.
//!
//! A [`Refusal`] is a decision: the daemon is well, and asking again the same way ends the same way. A [`Fault`] is
//! something that failed below it. On the wire both are varlink errors: the code is the error's name, the fields are
//! its parameters, and `message` holds the sentence.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    device::Initiator,
    id::{LeaseId, RegionName},
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

/// Something failed below the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Fault {
    /// The kernel said no to a provider.
    #[error("region {region}: {operation} failed: {reason}")]
    #[serde(rename = "io.peermem.Broker.ProviderFailed")]
    ProviderFailed {
        /// The region.
        region: RegionName,
        /// What the provider tried.
        operation: String,
        /// The kernel's answer, in words and with what it means here.
        reason: String,
    },
}
