//! QEMU's educational device (docs/specs/edu.rst): a DMA engine with a buffer of its own, driven from user space.

use peermem::verbs::Memory;
use peermem_proto::{ByteLen, DmaAddr, Initiator as Named, PciAddress};
use peermemd::{
    mapper::{AddressBits, Initiator},
    sys::vfio::{Command, Device},
};

use crate::{
    vfio::{EDU, address_of, bar, look_at, range, snapshot, taking},
    wait::until,
};

const SOURCE: usize = 0x80;
const TARGET: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;

const START: u64 = 1;
const TO_BUS: u64 = 2;
/// Where the engine's buffer is in its own addresses.
const BUFFER: u64 = 0x40000;
/// How much moves at once. The buffer holds 4096 bytes, but QEMU 7.2 aborts when a transfer has exactly as many.
const CHUNK: u64 = 2048;
/// What it can emit: the rest of an address is cut off.
pub const BITS: AddressBits = AddressBits::new(28).expect("between 12 and 64");

/// The engine, in the scenario's hands.
#[derive(Debug)]
pub struct Edu {
    /// What it is driven by.
    pub engine: Engine,
    /// It as a device that does DMA.
    pub initiator: Initiator,
}

/// The engine's registers, for whoever has its device.
#[derive(Debug)]
pub struct Engine {
    registers: Memory,
    address: PciAddress,
}

impl Edu {
    /// Takes it, and lets it do DMA.
    pub fn open() -> Self {
        let initiator = Initiator::open(&snapshot(), address_of(EDU), BITS, taking()).unwrap();
        let device = initiator.function().device();
        let engine = Engine::of(device, initiator.address());
        Self { engine, initiator }
    }

    /// Where it is.
    pub fn address(&self) -> PciAddress {
        self.initiator.address()
    }
}

impl Engine {
    /// Lets it do DMA.
    pub fn of(device: &Device, address: PciAddress) -> Self {
        device.command(Command::Memory, true).unwrap();
        device.command(Command::BusMaster, true).unwrap();
        Self { registers: look_at(device, bar(0), range(0, 4096)), address }
    }

    /// Copies between two addresses of the engine's, through its buffer.
    pub fn copy(&self, from: &DmaAddr, to: &DmaAddr, length: ByteLen) {
        for done in (0..length.get()).step_by(usize::try_from(CHUNK).unwrap()) {
            let count = CHUNK.min(length.get() - done);
            self.fetch(from, done, count);
            self.store(to, done, count);
        }
    }

    /// Reads into its buffer.
    pub fn fetch(&self, from: &DmaAddr, offset: u64, count: u64) {
        self.transfer(self.emitted(from, offset), BUFFER, count, START);
    }

    /// Writes from its buffer.
    pub fn store(&self, to: &DmaAddr, offset: u64, count: u64) {
        self.transfer(BUFFER, self.emitted(to, offset), count, START | TO_BUS);
    }

    fn emitted(&self, address: &DmaAddr, offset: u64) -> u64 {
        assert_eq!(address.initiator, Named::Vfio(self.address), "an address is one initiator's");
        address.iova.get() + offset
    }

    fn transfer(&self, source: u64, target: u64, count: u64, command: u64) {
        for (register, value) in [(SOURCE, source), (TARGET, target), (COUNT, count), (COMMAND, command)] {
            self.registers.write(register, &value.to_ne_bytes()).unwrap();
        }
        until("the engine has finished", || {
            let mut command = [0; 8];
            self.registers.read(COMMAND, &mut command).unwrap();
            (u64::from_ne_bytes(command) & START == 0).then_some(())
        });
    }
}
