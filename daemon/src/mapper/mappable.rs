//! Memory that may be mapped for an initiator.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use peermem_proto::{BusAddr, ByteRange};

use crate::sys::{DeviceMemory, vfio::Exported};

/// What a provider lent to one lease. While a copy of this exists, the provider lends the memory to nobody else and keeps its
/// device open: an IOMMU that was told where the memory is goes on pointing there, whatever becomes of the memory.
#[derive(Debug, Clone)]
pub struct Mappable {
    memory: Arc<DeviceMemory>,
    pub(super) range: ByteRange,
    pub(super) bus_address: Option<BusAddr>,
    loan: Arc<Loan>,
}

/// One loan, whose copies are counted: the provider's own copy of the dma-buf that was lent.
#[derive(Debug)]
pub struct Loan(OwnedFd);

impl Loan {
    /// A loan that nobody has a copy of.
    pub fn new(dmabuf: OwnedFd) -> Arc<Self> {
        Arc::new(Self(dmabuf))
    }

    /// The dma-buf.
    pub fn dmabuf(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Mappable {
    /// This part of `memory`, for as long as `loan` has copies; and where it is on the bus, as far as that can be told.
    pub fn new(
        memory: &Arc<DeviceMemory>,
        range: ByteRange,
        bus_address: Option<BusAddr>,
        loan: &Arc<Loan>,
    ) -> Self {
        Self { memory: Arc::clone(memory), range, bus_address, loan: Arc::clone(loan) }
    }

    /// It, as an IOMMU is told of it.
    pub(super) fn exported(&self) -> Exported<'_> {
        Exported { memory: &self.memory, range: self.range, dmabuf: self.loan.dmabuf() }
    }
}
