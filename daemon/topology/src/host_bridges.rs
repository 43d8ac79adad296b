//! The host bridges that the kernel knows to pass peer-to-peer traffic.
//!
//! The facts are those of `pci_p2pdma_whitelist` in `drivers/pci/p2pdma.c`, Linux 7.3; they were also compared with
//! the table inside Debian's 7.3.4 kernel image. Older kernels know fewer (the Intel accelerators and the NVIDIA CPUs
//! were added in 2026), and refuse there what is listed here.

use crate::id::PciId;

/// Between which devices a listed host bridge passes peer-to-peer traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Between any two, also with another listed host bridge at the other end.
    Anywhere,
    /// Between devices below this very host bridge: the kernel's `REQ_SAME_HOST_BRIDGE`.
    SameBridge,
}

const INTEL: u16 = 0x8086;
const NVIDIA: u16 = 0x10de;
const GOOGLE: u16 = 0x1ae0;

/// What the kernel's list says of the host bridge with this first device, or `None` when it isn't listed.
pub(crate) fn listed(first_device: PciId) -> Option<Reach> {
    match (first_device.vendor, first_device.device) {
        // Xeon E5 and Core i7; Xeon E5 v3 and E7 v3.
        (INTEL, 0x3c00 | 0x3c01 | 0x2f00 | 0x2f01) => Some(Reach::SameBridge),
        // Skylake-E: its root ports A to D, and the host bridge.
        (INTEL, 0x2030..=0x2033 | 0x2020) => Some(Reach::Anywhere),
        // Every Xeon since Ice Lake.
        (INTEL, 0x09a2) => Some(Reach::Anywhere),
        // Root buses of these Xeons that begin with an accelerator: data streaming (DSA), analytics (IAA), QuickAssist.
        (INTEL, 0x0b25 | 0x11fb | 0x1212) => Some(Reach::Anywhere),
        (INTEL, 0x0cfe | 0x1216) => Some(Reach::Anywhere),
        (INTEL, 0x4940 | 0x4942 | 0x4944 | 0x4946 | 0x4948) => Some(Reach::Anywhere),
        (NVIDIA, 0x2f95..=0x2f98) => Some(Reach::Anywhere),
        (GOOGLE, _) => Some(Reach::Anywhere),
        _ => None,
    }
}
