//! A PCI function in user space's hands.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use peermem_proto::ByteLen;
use rustix::{event::EventfdFlags, io::Errno};
use vfio_bindings::bindings::vfio as abi;

use super::{
    call::{self, Number, size},
    capabilities::{Malformed, chain},
};
use crate::sys::DeviceMemory;

/// Room for a region's capabilities: a few words, or the areas that can be mapped where those aren't all of it.
const INFO_BYTES: u32 = 1024;
const INFO_WORDS: usize = INFO_BYTES as usize / size_of::<u64>();

/// Where a function's Command register is in its configuration space (PCI_COMMAND).
const COMMAND: u64 = 4;

/// The number of a BAR, 0 to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarIndex(u8);

impl BarIndex {
    /// The BAR, or `None` where there is none with such a number.
    pub const fn new(index: u8) -> Option<Self> {
        if index < 6 { Some(Self(index)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for BarIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BAR {}", self.0)
    }
}

/// Bits of a function's Command register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It answers at its memory BARs. Switching it off revokes its dma-bufs until it is on again.
    Memory = 0x2,
    /// It may do DMA.
    BusMaster = 0x4,
}

/// A part of a device that its descriptor gives access to, as `VFIO_DEVICE_GET_REGION_INFO` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// How long it is; zero for a BAR that isn't there.
    pub size: ByteLen,
    /// Where it is in the device's descriptor, for `pread` and `mmap`.
    pub offset: u64,
    /// Whether it can be mapped: I/O ports and tiny BARs can't.
    pub can_be_mapped: bool,
    /// Whether the function's MSI-X table is in it: whoever writes there chooses what the device interrupts.
    pub has_interrupt_table: bool,
}

/// A PCI function that is bound to vfio-pci. Its BARs and configuration space are reached through its descriptor.
#[derive(Debug)]
pub struct Device(OwnedFd);

impl Device {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A device from a descriptor that an earlier process opened. It hasn't been reset since, and its dma-bufs are valid.
    ///
    /// # Errors
    /// What the kernel says of other descriptors; `ENODEV` for a device that isn't on PCI.
    pub fn take_over(fd: OwnedFd) -> Result<Self, Errno> {
        let mut info = abi::vfio_device_info { argsz: size::<abi::vfio_device_info>(), ..Default::default() };
        // SAFETY: the call takes a `vfio_device_info`, and this is a whole one; other files than devices don't know it.
        unsafe { call::pointer(fd.as_fd(), Number::DeviceGetInfo, &raw mut info) }?;
        if info.flags & abi::VFIO_DEVICE_FLAGS_PCI == 0 { Err(Errno::NODEV) } else { Ok(Self(fd)) }
    }

    /// Where a BAR is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bar(&self, index: BarIndex) -> Result<Region, Errno> {
        // VFIO_PCI_BAR0_REGION_INDEX is 0.
        self.region(u32::from(index.get()))
    }

    /// All of a BAR, mapped. The function must answer at it: see [`Command::Memory`].
    ///
    /// # Errors
    /// What the kernel says; `EINVAL` for a BAR that can't be mapped.
    pub fn map(&self, index: BarIndex) -> io::Result<DeviceMemory> {
        let region = self.bar(index)?;
        if !region.can_be_mapped {
            return Err(Errno::INVAL.into());
        }
        DeviceMemory::map(self.0.as_fd(), region.offset, region.size)
    }

    /// Whether a bit of the Command register is set. The kernel sets [`Command::Memory`] when a device is opened that nobody had
    /// open (`vfio_config_init` in drivers/vfio/pci).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn has(&self, bit: Command) -> io::Result<bool> {
        let (_, value) = self.read_command()?;
        Ok(value & bit as u16 != 0)
    }

    /// Sets or clears a bit of the Command register.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn command(&self, bit: Command, on: bool) -> io::Result<()> {
        let (at, before) = self.read_command()?;
        let after = if on { before | bit as u16 } else { before & !(bit as u16) };
        match rustix::io::pwrite(&self.0, &after.to_le_bytes(), at)? {
            2 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Where the Command register is in the device's descriptor, and what it holds.
    fn read_command(&self) -> io::Result<(u64, u16)> {
        let at = self.region(abi::VFIO_PCI_CONFIG_REGION_INDEX)?.offset + COMMAND;
        let mut bytes = [0; 2];
        match rustix::io::pread(&self.0, &mut bytes, at)? {
            2 => Ok((at, u16::from_le_bytes(bytes))),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// An eventfd that becomes readable when the kernel wants the device back: its driver is being unbound, or it is being
    /// unplugged. Both wait until every descriptor of the device and every mapping of its BARs is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wanted_back(&self) -> Result<OwnedFd, Errno> {
        #[repr(C)]
        struct WithDescriptor {
            set: abi::vfio_irq_set,
            descriptor: i32,
        }
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut argument = WithDescriptor {
            set: abi::vfio_irq_set {
                argsz: size::<WithDescriptor>(),
                flags: abi::VFIO_IRQ_SET_DATA_EVENTFD | abi::VFIO_IRQ_SET_ACTION_TRIGGER,
                index: abi::VFIO_PCI_REQ_IRQ_INDEX,
                start: 0,
                count: 1,
                ..Default::default()
            },
            descriptor: event.as_raw_fd(),
        };
        // SAFETY: the call takes a `vfio_irq_set` followed by `count` descriptors, and `argsz` counts both.
        unsafe { call::pointer(self.0.as_fd(), Number::DeviceSetIrqs, &raw mut argument) }?;
        Ok(event)
    }

    fn region(&self, index: u32) -> Result<Region, Errno> {
        let mut words = [0_u64; INFO_WORDS];
        let head = words.as_mut_ptr().cast::<abi::vfio_region_info>();
        let question = abi::vfio_region_info { argsz: INFO_BYTES, index, ..Default::default() };
        // SAFETY: the structure is smaller than `words`, and its alignment that of a `u64`.
        unsafe { head.write(question) };
        // SAFETY: the call writes at most `argsz` bytes from the structure's start on, which is the size of `words`.
        unsafe { call::pointer(self.0.as_fd(), Number::DeviceGetRegionInfo, head) }?;
        // SAFETY: as for the write; every value of its fields is valid.
        let info = unsafe { head.read() };

        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let capabilities = match info.flags & abi::VFIO_REGION_INFO_FLAG_CAPS {
            0 => Vec::new(),
            _ => chain(&bytes, info.cap_offset.into()).map_err(|Malformed| Errno::PROTO)?,
        };
        let table = u64::from(abi::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
        Ok(Region {
            size: ByteLen::new(info.size),
            offset: info.offset,
            can_be_mapped: info.flags & abi::VFIO_REGION_INFO_FLAG_MMAP != 0,
            has_interrupt_table: capabilities.iter().any(|&(kind, _)| kind == table),
        })
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
