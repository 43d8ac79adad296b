//! One initiator: its address space, and what is mapped there.

use std::collections::BTreeMap;

use peermem_proto::{ByteLen, Direction, DmaAddr, PciAddress, address::Iova};
use peermem_topology::Snapshot;
use rustix::io::Errno;

use super::{
    InitiatorError, MapError, Mappable, UnmapError,
    iova_space::{AddressBits, IovaSpace},
};
use crate::{
    sys::vfio::{Command, MapDmaError},
    vfio::{Function, Taking},
};

/// Where memory shall appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Wherever addresses are free.
    Anywhere,
    /// At this address, for programs that were written with one in mind.
    At(Iova),
}

/// A function that belongs to user space, as a device that does DMA. It reaches what is mapped here and nothing else; when
/// this and all copies of its descriptors are gone, nothing at all.
///
/// One without an IOMMU reaches everything, at all times: its mappings only say where.
#[derive(Debug)]
pub struct Initiator {
    function: Function,
    space: IovaSpace,
    mappings: BTreeMap<Iova, Mappable>,
}

impl Initiator {
    /// Takes a function that emits addresses of so many bits.
    ///
    /// # Errors
    /// [`InitiatorError`].
    pub fn open(
        snapshot: &Snapshot,
        address: PciAddress,
        bits: AddressBits,
        taking: Taking,
    ) -> Result<Self, InitiatorError> {
        Self::new(Function::open(snapshot, address, taking)?, bits)
    }

    /// Goes on with a function that was taken over, for which an earlier process had mapped this memory.
    ///
    /// # Errors
    /// [`InitiatorError`]; [`InitiatorError::Remembered`] for mappings that can't have been.
    pub fn take_over(
        function: Function,
        bits: AddressBits,
        mapped: impl IntoIterator<Item = (Iova, Mappable)>,
    ) -> Result<Self, InitiatorError> {
        let mut initiator = Self::new(function, bits)?;
        let address = initiator.address();
        for (iova, memory) in mapped {
            let claimed = initiator.space.claim(iova, memory.range.length());
            claimed.map_err(|source| InitiatorError::Remembered { address, source })?;
            initiator.mappings.insert(iova, memory);
        }
        initiator.sweep()?;
        Ok(initiator)
    }

    /// Unmaps whatever is mapped where nothing should be.
    fn sweep(&self) -> Result<(), InitiatorError> {
        let Some(domain) = self.function.domain() else { return Ok(()) };
        let address = self.address();
        for range in self.space.free() {
            let unmapped = domain.unmap(Iova::new(range.offset().get()), range.length());
            let unmapped = unmapped.map_err(|source| InitiatorError::NotSwept { address, source })?;
            if !unmapped.is_zero() {
                tracing::warn!(device = %address, "{unmapped} were mapped for {address} that nobody remembers");
            }
        }
        Ok(())
    }

    /// Lets go of the device and takes it again. Returns whether that has closed it: if so it was reset, and nobody else has it.
    /// Nothing may be mapped.
    ///
    /// # Errors
    /// [`InitiatorError`]; the initiator is lost.
    pub fn reopen(self) -> Result<(Self, bool), InitiatorError> {
        let Self { function, space, mappings } = self;
        let address = function.address();
        let failed = |source| InitiatorError::Config { address, source };
        let is_exclusive = function.is_exclusive();
        // The kernel sets this bit when it opens a device that nobody has open. Where it gives none that somebody has, that isn't
        // asked: they go on with their device as it is.
        if !is_exclusive {
            function.device().command(Command::Memory, false).map_err(failed)?;
        }
        let function = function.reopen()?;
        let afresh = is_exclusive || function.device().has(Command::Memory).map_err(failed)?;
        if !afresh {
            function.device().command(Command::Memory, true).map_err(failed)?;
        }
        Ok((Self { function, space, mappings }, afresh))
    }

    fn new(function: Function, bits: AddressBits) -> Result<Self, InitiatorError> {
        let address = function.address();
        if !function.others().0.is_empty() {
            return Err(InitiatorError::SharedGroup { address, others: function.others().clone() });
        }
        let space = match function.domain() {
            Some(domain) => {
                let info = domain.info().map_err(|source| InitiatorError::Unknown { address, source })?;
                IovaSpace::new(&info, bits)
            }
            None => IovaSpace::untranslated(bits),
        };
        Ok(Self { space, function, mappings: BTreeMap::new() })
    }

    /// Lets the initiator reach `memory`, and do there what `direction` says.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map(&mut self, memory: Mappable, direction: Direction, place: Place) -> Result<DmaAddr, MapError> {
        let range = memory.range;
        let length = range.length();
        self.check_alignment(&memory, place)?;
        let domain = self.function.domain();
        let place = if domain.is_some() { place } else { untranslated(&memory, direction, place)? };
        let iova = match place {
            Place::Anywhere => self.space.take(length)?,
            Place::At(iova) => self.space.claim(iova, length).map(|()| iova)?,
        };
        let mapped = domain.map_or(Ok(()), |domain| domain.map(iova, memory.exported(), direction));
        if let Err(error) = mapped {
            // The kernel undoes what it began (vfio_pin_map_dma in drivers/vfio/vfio_iommu_type1.c, iopt_map_pages in
            // drivers/iommu/iommufd/io_pagetable.c).
            self.space.give_back(iova, length);
            return Err(explain(error, iova, length));
        }
        self.mappings.insert(iova, memory);
        Ok(self.dma_addr(iova))
    }

    /// Takes a mapping away: what the initiator emits at that address from now on, the IOMMU turns down. Without an IOMMU nothing
    /// does.
    ///
    /// # Errors
    /// [`UnmapError`].
    pub fn unmap(&mut self, address: &DmaAddr) -> Result<(), UnmapError> {
        let initiator = self.address();
        if address.initiator != peermem_proto::Initiator::Vfio(initiator) {
            return Err(UnmapError::OtherInitiator { address: address.clone(), initiator });
        }
        let mapping =
            self.mappings.get(&address.iova).ok_or_else(|| UnmapError::NotMapped(address.clone()))?;
        let length = mapping.range.length();
        let unmapped = self.function.domain().map_or(Ok(length), |domain| domain.unmap(address.iova, length));
        let unmapped = unmapped.map_err(|source| UnmapError::Kernel { address: address.clone(), source })?;
        if unmapped != length {
            return Err(UnmapError::Partly { address: address.clone(), length, unmapped });
        }
        self.mappings.remove(&address.iova);
        self.space.give_back(address.iova, length);
        Ok(())
    }

    /// Its PCI address.
    pub const fn address(&self) -> PciAddress {
        self.function.address()
    }

    /// The function, whose device a client may own. Who has the device's descriptor drives it, and with it reaches all that is
    /// mapped here.
    pub const fn function(&self) -> &Function {
        &self.function
    }

    /// What is mapped, by address, with its length.
    pub fn mappings(&self) -> impl Iterator<Item = (DmaAddr, ByteLen)> + '_ {
        self.mappings.iter().map(|(&iova, mapping)| (self.dma_addr(iova), mapping.range.length()))
    }

    fn dma_addr(&self, iova: Iova) -> DmaAddr {
        DmaAddr { initiator: peermem_proto::Initiator::Vfio(self.address()), iova }
    }

    fn check_alignment(&self, memory: &Mappable, place: Place) -> Result<(), MapError> {
        let page = self.space.page();
        let iova = match place {
            Place::Anywhere => 0,
            Place::At(iova) => iova.get(),
        };
        let values = [
            ("offset", memory.range.offset().get()),
            ("length", memory.range.length().get()),
            ("IOVA", iova),
        ];
        match values.into_iter().find(|&(_, value)| !ByteLen::new(value).is_aligned(page)) {
            Some((what, value)) => Err(MapError::NotAligned { what, value, page }),
            None => Ok(()),
        }
    }
}

/// Where memory is for a device for which no IOMMU translates: where it is anyway, and for both directions.
fn untranslated(memory: &Mappable, direction: Direction, place: Place) -> Result<Place, MapError> {
    if direction != Direction::Bidirectional {
        return Err(MapError::Unrestricted { direction });
    }
    let at = memory.bus_address.ok_or(MapError::NoBusAddress)?;
    match place {
        Place::At(asked) if asked.get() != at.get() => Err(MapError::Untranslated { asked, at }),
        Place::At(_) | Place::Anywhere => Ok(Place::At(Iova::new(at.get()))),
    }
}

fn explain(error: MapDmaError, iova: Iova, length: ByteLen) -> MapError {
    match error {
        MapDmaError::Container(Errno::NOSPC) => MapError::MappingsUsedUp,
        MapDmaError::Container(Errno::FAULT) | MapDmaError::Iommufd(Errno::NODEV) => MapError::MemoryGone,
        source => MapError::Kernel { iova, length, source },
    }
}
