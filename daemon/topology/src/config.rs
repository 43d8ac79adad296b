//! The walk through PCI Express extended configuration space to the ACS capability.

use thiserror::Error;

/// Bytes of configuration space that every PCI function has; extended space begins here.
pub(crate) const CONVENTIONAL_SIZE: u16 = 0x100;
/// Bytes of configuration space that a PCI Express function has.
const EXPRESS_SIZE: u16 = 0x1000;
/// A capability is at least two dwords, so that no honest list is longer than this; a loop ends here.
const MAX_CAPABILITIES: usize = (EXPRESS_SIZE as usize - CONVENTIONAL_SIZE as usize) / 8;
/// `PCI_EXT_CAP_ID_ACS`.
const ACS: u16 = 0x000d;

/// Configuration space ends or vanishes before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "configuration space can't be read that far: open it with CAP_SYS_ADMIN, and see whether the device is gone"
)]
pub struct ConfigUnreadable;

/// Offset of the ACS extended capability in bytes, or `None` when the function has none.
///
/// `dword` reads the register at a multiple of 4 from 0x100 to 0xffc, and answers `None` past the end of what can be
/// read. Only the headers on the way are read: some devices lock up when undefined registers are (see
/// `pci_read_config` in `drivers/pci/pci-sysfs.c`). The walk is `pci_find_next_ext_capability` in
/// `drivers/pci/pci.c`.
///
/// # Errors
/// [`ConfigUnreadable`] when `dword` answers `None`, or all ones, which is what a device that is gone reads as.
pub fn acs_capability(mut dword: impl FnMut(u16) -> Option<u32>) -> Result<Option<u16>, ConfigUnreadable> {
    let mut offset = CONVENTIONAL_SIZE;
    for _ in 0..MAX_CAPABILITIES {
        let header = dword(offset).filter(|&header| header != u32::MAX).ok_or(ConfigUnreadable)?;
        let [id_low, id_high, next_low, next_high] = header.to_le_bytes();
        if u16::from_le_bytes([id_low, id_high]) == ACS {
            return Ok(Some(offset));
        }
        // Bits 31:20 are the offset of the next capability; its two lowest bits are reserved.
        offset = u16::from_le_bytes([next_low, next_high]) >> 4 & !0b11;
        if offset < CONVENTIONAL_SIZE {
            return Ok(None);
        }
    }
    Ok(None)
}

/// The ACS Control register's value, from the dword that follows the header of the capability at `capability`.
pub(crate) fn acs_control(
    capability: u16,
    mut dword: impl FnMut(u16) -> Option<u32>,
) -> Result<u16, ConfigUnreadable> {
    let registers = capability
        .checked_add(4)
        .and_then(&mut dword)
        .filter(|&registers| registers != u32::MAX)
        .ok_or(ConfigUnreadable)?;
    let [_, _, control_low, control_high] = registers.to_le_bytes();
    Ok(u16::from_le_bytes([control_low, control_high]))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn reader(space: &[u8]) -> impl FnMut(u16) -> Option<u32> {
        |offset| {
            let bytes = space.get(usize::from(offset)..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        }
    }

    /// Configuration space with these capabilities: (offset, ID, next).
    fn space(capabilities: &[(u16, u16, u16)]) -> Vec<u8> {
        let mut space = vec![0; 0x1000];
        for &(offset, id, next) in capabilities {
            let header = u32::from(id) | 1 << 16 | u32::from(next) << 20;
            space[usize::from(offset)..][..4].copy_from_slice(&header.to_le_bytes());
        }
        space
    }

    #[test]
    fn found_behind_other_capabilities() {
        let mut space = space(&[(0x100, 0x0001, 0x148), (0x148, 0x0003, 0x154), (0x154, ACS, 0)]);
        space[0x154 + 6] = 0x1d;
        assert_eq!(acs_capability(reader(&space)), Ok(Some(0x154)));
        assert_eq!(acs_control(0x154, reader(&space)), Ok(0x1d));
    }

    #[test]
    fn absent_when_the_list_is_empty_or_ends() {
        assert_eq!(acs_capability(reader(&space(&[]))), Ok(None));
        assert_eq!(acs_capability(reader(&space(&[(0x100, 0x0001, 0)]))), Ok(None));
        assert_eq!(acs_capability(reader(&space(&[(0x100, 0x0001, 0x40)]))), Ok(None), "0x40 isn't extended");
    }

    #[test]
    fn a_loop_ends() {
        assert_eq!(acs_capability(reader(&space(&[(0x100, 1, 0x200), (0x200, 2, 0x100)]))), Ok(None));
    }

    #[test]
    fn what_an_unprivileged_reader_gets_is_unreadable() {
        let space = space(&[(0x100, ACS, 0)]);
        assert_eq!(acs_capability(reader(&space[..64])), Err(ConfigUnreadable));
        assert_eq!(acs_capability(reader(&space[..0x104])), Ok(Some(0x100)));
        assert_eq!(acs_control(0x100, reader(&space[..0x104])), Err(ConfigUnreadable));
    }

    #[test]
    fn a_device_that_is_gone_is_unreadable() {
        let gone = vec![0xff; 0x1000];
        assert_eq!(acs_capability(reader(&gone)), Err(ConfigUnreadable));
        assert_eq!(acs_control(0x100, reader(&gone)), Err(ConfigUnreadable));
    }

    proptest! {
        /// Headers drawn from few offsets, so that loops and long lists are common.
        #[test]
        fn any_bytes_end_in_bounds(bytes in vec(any::<u8>(), 0x100..0x1000), links in vec(0x40u16..0x400, 0x400)) {
            let mut reads = 0;
            let answer = acs_capability(|offset| {
                reads += 1;
                assert!((0x100..=0xffc).contains(&offset) && offset % 4 == 0, "read at {offset:#x}");
                let random = reader(&bytes)(offset)?;
                Some(random & 0x000f_ffff | u32::from(links[usize::from(offset) / 4]) << 20)
            });
            prop_assert!(reads <= MAX_CAPABILITIES);
            if let Ok(Some(offset)) = answer {
                prop_assert_eq!(reader(&bytes)(offset).map(|header| header & 0xffff), Some(u32::from(ACS)));
            }
        }
    }
}
