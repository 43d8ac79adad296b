//! `dma_map_resource` for user space: memory of one device at an address that another device can emit.
//!
//! The initiator is a function that belongs to user space. The daemon holds its DMA address space, chooses where in it the
//! provider's memory appears, and has the IOMMU's page tables say so. What comes out is a [`DmaAddr`], which means something
//! to that one initiator only.
//!
//! **Invariant:** memory that an initiator can reach isn't lent to anyone else: a mapping holds a [`Mappable`], and a provider
//! waits for it.
//!
//! **Invariant:** an address that may still translate isn't given out again. What the kernel didn't unmap stays taken.
//!
//! [`DmaAddr`]: peermem_proto::DmaAddr

mod error;
mod initiator;
mod iova_space;
mod mappable;

pub use error::{InitiatorError, MapError, UnmapError};
pub use initiator::{Initiator, Place};
pub use iova_space::AddressBits;
pub use mappable::{Loan, Mappable};
