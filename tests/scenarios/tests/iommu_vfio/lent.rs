//! A lease's worth of a BAR, as the scenario's own eyes see it.

use peermem::verbs::Memory;
use peermem_proto::{ByteLen, ByteRange, Direction, DmaAddr};
use peermem_scenarios::{
    edu::Edu,
    vfio::{look_at, served},
};
use peermem_topology::PciId;
use peermemd::{
    mapper::{Mappable, Place},
    provider::vfio::VfioProvider,
    sys::vfio::BarIndex,
};

pub(crate) const PAGE: ByteLen = ByteLen::new(4096);
pub(crate) const LENGTH: ByteLen = ByteLen::new(16 << 10);
pub(crate) const BYTES: usize = 16 << 10;

pub(crate) struct Lent {
    pub(crate) provider: VfioProvider,
    pub(crate) bar: BarIndex,
    pub(crate) range: ByteRange,
    pub(crate) seen: Memory,
}

impl Lent {
    pub(crate) fn of(which: (PciId, BarIndex)) -> Self {
        let mut provider = served(which);
        let bar = which.1;
        let range = provider.carve(bar, LENGTH, PAGE).unwrap().range;
        let seen = look_at(provider.function().device(), bar, range);
        Self { provider, bar, range, seen }
    }

    pub(crate) fn map(&self, edu: &mut Edu, direction: Direction, place: Place) -> DmaAddr {
        edu.initiator.map(self.mappable(), direction, place).unwrap()
    }

    pub(crate) fn mappable(&self) -> Mappable {
        self.provider.mappable(self.bar, self.range).unwrap()
    }
}
