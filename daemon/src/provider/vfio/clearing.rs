//! Zeroing, as work for a thread that may take its time.

use std::sync::Arc;

use peermem_proto::{ByteLen, ByteRange};

use crate::sys::{DeviceMemory, NotInside, vfio::BarIndex};

/// Memory that nobody has and that may hold what someone wrote. It takes time to clear: writes to a BAR are slow.
#[derive(Debug)]
#[must_use = "the memory stays out of use until it is cleared"]
pub struct Clearing {
    pub(super) bar: BarIndex,
    pub(super) memory: Arc<DeviceMemory>,
    pub(super) range: ByteRange,
}

/// Proof that memory holds zeroes.
#[derive(Debug)]
#[must_use = "the memory stays out of use until the provider has this back"]
pub struct Cleared(pub(super) Clearing);

impl Cleared {
    /// Of which BAR.
    pub const fn bar(&self) -> BarIndex {
        self.0.bar
    }

    /// How much.
    pub const fn length(&self) -> ByteLen {
        self.0.length()
    }
}

impl Clearing {
    /// Of which BAR.
    pub const fn bar(&self) -> BarIndex {
        self.bar
    }

    /// How much.
    pub const fn length(&self) -> ByteLen {
        self.range.length()
    }

    /// Zeroes it; returns when the device has the zeroes.
    ///
    /// # Errors
    /// [`NotInside`], which no clearing of a provider's own is.
    pub fn run(self) -> Result<Cleared, NotInside> {
        self.memory.zero(self.range)?;
        Ok(Cleared(self))
    }
}
