//! A function's memory BARs: the files `resource` and `resourceN_resize`.

use std::path::Path;

use peermem_proto::{ByteLen, PhysAddr};

use super::file::{attribute, read_bytes};
use crate::function::Bar;

/// 17 lines of 57 bytes are what a bridge with all its windows has.
const RESOURCE_BYTES: u64 = 2048;
/// BARs come first in `resource`; after them the ROM, virtual functions' BARs and a bridge's windows.
const BARS: u8 = 6;

/// `IORESOURCE_MEM`, `_PREFETCH` and `_MEM_64` in `include/linux/ioport.h`.
const MEMORY: u64 = 0x200;
const PREFETCHABLE: u64 = 0x2000;
const WIDE: u64 = 0x10_0000;

/// A line of `resource`: where the CPU sees a BAR or a bridge's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) start: PhysAddr,
    /// `None` for one that isn't there, whose line is all zeroes.
    pub(crate) size: Option<ByteLen>,
    flags: u64,
}

impl Resource {
    pub(crate) const fn is_memory(&self) -> bool {
        self.flags & MEMORY != 0
    }
}

/// The BARs of the function with this directory; a line that isn't one ends the list. Where they are on the bus, bridges tell.
pub(super) fn read(function: &Path) -> Vec<Bar> {
    (0..BARS)
        .zip(resources(function))
        .filter_map(|(index, resource)| {
            resource.is_memory().then_some(Bar {
                index,
                size: resource.size?,
                wide: resource.flags & WIDE != 0,
                prefetchable: resource.flags & PREFETCHABLE != 0,
                bus_address: None,
                resizable_to: sizes(&function.join(format!("resource{index}_resize"))),
            })
        })
        .collect()
}

/// All lines of the function with this directory, up to the first that isn't one.
pub(crate) fn resources(function: &Path) -> Vec<Resource> {
    let bytes = read_bytes(&function.join("resource"), RESOURCE_BYTES).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().map_while(line).collect()
}

/// `START END FLAGS`, all hexadecimal.
fn line(line: &str) -> Option<Resource> {
    let mut numbers = line.split(' ').map(|number| u64::from_str_radix(number.strip_prefix("0x")?, 16).ok());
    let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let size = end.checked_sub(start).filter(|&last| last > 0).and_then(|last| last.checked_add(1));
    Some(Resource { start: PhysAddr::new(start), size: size.map(ByteLen::new), flags })
}

/// The sizes of a resizable BAR: bit N stands for 2^N MiB (`pci_rebar_get_possible_sizes` in `drivers/pci`).
fn sizes(path: &Path) -> Vec<ByteLen> {
    let bits = attribute(path, "a bit mask", |text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
    (0..43).filter(|bit| bits >> bit & 1 != 0).map(|bit| ByteLen::new(1 << (20 + bit))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn sizes_and_kinds() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("resource"),
            "0x00000000fe000000 0x00000000fe003fff 0x0000000000040200\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x0000380000000000 0x00003803ffffffff 0x000000000014220c\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x000000000000e000 0x000000000000e01f 0x0000000000040101\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x00000000000c0000 0x00000000000dffff 0x0000000000000212\n",
        )
        .unwrap();
        fs::write(directory.path().join("resource2_resize"), "0000000000007f00\n").unwrap();
        let registers = Bar {
            index: 0,
            size: ByteLen::new(16 << 10),
            wide: false,
            prefetchable: false,
            bus_address: None,
            resizable_to: Vec::new(),
        };
        let memory = Bar {
            index: 2,
            size: ByteLen::new(16 << 30),
            wide: true,
            prefetchable: true,
            bus_address: None,
            resizable_to: (28..=34).map(|bit| ByteLen::new(1 << bit)).collect(),
        };
        assert_eq!(read(directory.path()), [registers, memory], "I/O ports and the ROM are no memory BARs");
    }

    #[test]
    fn garbage_has_no_bars() {
        let directory = tempfile::tempdir().unwrap();
        for text in [
            "",
            "x\n",
            "0x1 0x0 0x200\n",
            "0x0 0xffffffffffffffff 0x200\n",
            "0x1 0x2\n",
            &"0".repeat(1 << 20),
        ] {
            fs::write(directory.path().join("resource"), text).unwrap();
            assert_eq!(read(directory.path()), [], "{text:.40?}");
        }
    }
}
