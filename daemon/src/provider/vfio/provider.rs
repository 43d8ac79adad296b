//! All that is served of one function.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
};

use peermem_proto::{ByteLen, ByteRange, PciAddress};
use peermem_topology::Snapshot;

use super::{CarveError, Cleared, Clearing, RevokeError, VfioError, Window, bar::Bar};
use crate::{
    mapper::Mappable,
    ranges::Figures,
    sys::vfio::{BarIndex, Command},
    vfio::{CLOSING, Function, Taking},
};

/// A function bound to vfio-pci, and those of its BARs that the administrator declared to be memory.
#[derive(Debug)]
pub struct VfioProvider {
    // Mappings of its BARs keep a device open: they are let go first.
    bars: BTreeMap<BarIndex, Bar>,
    function: Function,
}

impl VfioProvider {
    /// Takes a function to serve these BARs of it. Nothing is lent before the clearings are done.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn open(
        snapshot: &Snapshot,
        address: PciAddress,
        bars: &BTreeSet<BarIndex>,
        taking: Taking,
    ) -> Result<(Self, Vec<Clearing>), VfioError> {
        // First: opening it resets it.
        if let Some(function) = snapshot.functions.get(&address) {
            for &bar in bars {
                check(address, bar, &function.details.bars)?;
            }
        }
        let function = Function::open(snapshot, address, taking)?;
        Self::serve(function, bars.iter().map(|&bar| (bar, Vec::new())).collect())
    }

    /// Serves BARs of a function that is taken already. These windows of them an earlier process has lent, and some of them may
    /// be on their way back: each comes with the daemon's copy of its dma-buf, without which nobody could tell when it is free.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn serve(
        function: Function,
        bars: BTreeMap<BarIndex, Vec<Window>>,
    ) -> Result<(Self, Vec<Clearing>), VfioError> {
        let (address, device) = (function.address(), function.device());
        if !device.can_export().map_err(VfioError::errno(address, "VFIO_DEVICE_FEATURE"))? {
            return Err(VfioError::NoExport { address });
        }
        device.command(Command::Memory, true).map_err(VfioError::io(address, "enabling its memory"))?;
        let page = ByteLen::from_usize(rustix::param::page_size());
        let (mut served, mut clearings) = (BTreeMap::new(), Vec::new());
        for (bar, lent) in bars {
            let region = device.bar(bar).map_err(VfioError::errno(address, "VFIO_DEVICE_GET_REGION_INFO"))?;
            if region.has_interrupt_table {
                return Err(VfioError::Registers {
                    address,
                    bar,
                    why: "the interrupt (MSI-X) table is there",
                });
            }
            if !region.can_be_mapped || region.size.is_zero() || !region.size.is_aligned(page) {
                return Err(VfioError::NotMappable { address, bar, size: region.size });
            }
            let memory = device.map(bar).map_err(VfioError::io(address, "mapping a BAR"))?;
            let windows = Bar::new(bar, memory, lent);
            let (windows, unknown) =
                windows.map_err(|source| VfioError::Remembered { address, bar, source })?;
            served.insert(bar, windows);
            clearings.extend(unknown);
        }
        Ok((Self { bars: served, function }, clearings))
    }

    /// Lends `length` bytes of a BAR, in a place that begins at a multiple of `alignment`. Both are whole pages.
    ///
    /// # Errors
    /// [`CarveError`].
    pub fn carve(
        &mut self,
        bar: BarIndex,
        length: ByteLen,
        alignment: ByteLen,
    ) -> Result<Window, CarveError> {
        let served = self.bars.get_mut(&bar).ok_or(CarveError::NotServed(bar))?;
        served.carve(self.function.device(), length, alignment)
    }

    /// Takes a window back: it is lent again when nobody has its dma-buf any more and it is cleared. Returns whether it was
    /// lent.
    pub fn give_back(&mut self, bar: BarIndex, range: ByteRange) -> bool {
        self.bars.get_mut(&bar).is_some_and(|bar| bar.give_back(range))
    }

    /// systemd has a copy of this window's dma-buf from now on.
    pub fn stored(&mut self, bar: BarIndex, range: ByteRange) {
        if let Some(bar) = self.bars.get_mut(&bar) {
            bar.stored(range);
        }
    }

    /// The windows that came back and that only systemd's copies keep. The caller has those dropped.
    pub fn only_stored(&mut self) -> Vec<(BarIndex, ByteRange)> {
        let of_bar = |(&index, bar): (&BarIndex, &mut Bar)| {
            bar.only_stored().into_iter().map(move |range| (index, range)).collect::<Vec<_>>()
        };
        self.bars.iter_mut().flat_map(of_bar).collect()
    }

    /// Whether something came back that somebody may still have.
    pub fn has_returned(&self) -> bool {
        self.bars.values().any(Bar::has_returned)
    }

    /// Every window of which systemd has a copy.
    pub fn in_store(&self) -> impl Iterator<Item = (BarIndex, ByteRange)> + '_ {
        self.bars.iter().flat_map(|(&index, bar)| {
            bar.kept().filter_map(move |(range, stored)| stored.then_some((index, range)))
        })
    }

    /// Whether memory is mapped for initiators or being zeroed: [`VfioProvider::revoke`] waits for that.
    pub fn is_in_use(&self) -> bool {
        self.bars.values().any(Bar::is_in_use)
    }

    /// The BARs that are served.
    pub fn bars(&self) -> impl Iterator<Item = BarIndex> + '_ {
        self.bars.keys().copied()
    }

    /// How large a BAR is.
    pub fn size(&self, bar: BarIndex) -> Option<ByteLen> {
        self.bars.get(&bar).map(Bar::size)
    }

    /// What came back and nobody has any more, to be cleared. The kernel sends no event for that: ask from time to time while
    /// something is on its way back.
    pub fn settle(&mut self) -> Vec<Clearing> {
        self.bars.values_mut().flat_map(Bar::settle).collect()
    }

    /// Takes cleared memory back into use. Returns whether it was this provider's, and not that of the same function before it was
    /// opened again.
    pub fn cleared(&mut self, cleared: Cleared) -> bool {
        self.bars.get_mut(&cleared.0.bar).is_some_and(|bar| bar.cleared(cleared))
    }

    /// Ends every loan of the function at once, whoever still has a dma-buf: the device is closed, which resets it, and taken
    /// again. All its memory must be cleared before it is lent.
    ///
    /// Copies of the device's descriptor must be gone, those in systemd's store too.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub fn revoke(self) -> Result<(Self, Vec<Clearing>), RevokeError> {
        if let Some((&bar, _)) = self.bars.iter().find(|(_, bar)| bar.is_in_use()) {
            return Err(RevokeError::InUse { bar, provider: Box::new(self) });
        }
        let Self { bars, function } = self;
        let address = function.address();
        // This revokes at once, and tells afterwards whether the device was closed: then the kernel has set the bit.
        let memory_off = function.device().command(Command::Memory, false);
        memory_off.map_err(VfioError::io(address, "disabling its memory"))?;
        let wanted = bars.keys().map(|&bar| (bar, Vec::new())).collect();
        drop(bars);
        let mut function = function;
        for pause in CLOSING {
            function = function.reopen().map_err(VfioError::Open)?;
            let afresh = function.device().has(Command::Memory);
            if afresh.map_err(VfioError::io(address, "reading its Command register"))? {
                return Ok(Self::serve(function, wanted)?);
            }
            thread::sleep(pause);
        }
        Err(RevokeError::StillOpen(address))
    }

    /// A window that is lent, for mapping it for initiators; `None` for anything else.
    pub fn mappable(&self, bar: BarIndex, range: ByteRange) -> Option<Mappable> {
        self.bars.get(&bar)?.mappable(range, self.function.bus_address(bar))
    }

    /// What of a BAR is free, and in how large pieces.
    pub fn figures(&self, bar: BarIndex) -> Option<Figures> {
        self.bars.get(&bar).map(Bar::figures)
    }

    /// The function.
    pub const fn function(&self) -> &Function {
        &self.function
    }
}

/// Whether a BAR is memory, as far as one can tell from outside.
fn check(address: PciAddress, bar: BarIndex, known: &[peermem_topology::Bar]) -> Result<(), VfioError> {
    let found = known.iter().find(|known| known.index == bar.get());
    let found = found.ok_or_else(|| {
        let memory = known.iter().filter_map(|known| BarIndex::new(known.index)).collect();
        VfioError::NoSuchBar { address, bar, memory }
    })?;
    // PCI Local Bus Specification, 6.2.5.1: memory is prefetchable when reads have no side effects and bytes can be merged.
    if found.prefetchable {
        Ok(())
    } else {
        Err(VfioError::Registers { address, bar, why: "it isn't prefetchable" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(index: u8, prefetchable: bool) -> peermem_topology::Bar {
        peermem_topology::Bar {
            index,
            size: ByteLen::new(1 << 20),
            wide: true,
            prefetchable,
            bus_address: None,
            resizable_to: Vec::new(),
        }
    }

    #[test]
    fn a_bar_of_registers_is_refused_and_a_missing_one_named() {
        let address = "0000:01:00.0".parse().unwrap();
        let known = [bar(0, false), bar(2, true)];
        let check = |index| check(address, BarIndex::new(index).unwrap(), &known);
        check(2).unwrap();
        let registers = check(0).unwrap_err().to_string();
        assert!(registers.contains("BAR 0 of 0000:01:00.0 holds registers"), "{registers}");
        let missing = check(4).unwrap_err().to_string();
        assert!(missing.contains("no memory at BAR 4: it has BAR 0, BAR 2"), "{missing}");
    }
}
