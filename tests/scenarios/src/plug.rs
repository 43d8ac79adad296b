//! Drives that are taken out of the running machine.

use std::fs;

use crate::{command::put_back, drive::Drive, wait::until};

/// A drive that is unplugged; plugged in again when dropped.
#[derive(Debug)]
pub struct Unplugged(Drive);

impl Unplugged {
    /// Takes it out, which returns before everybody has noticed.
    pub fn new(drive: Drive) -> Self {
        fs::write(format!("/sys/bus/pci/devices/{}/remove", drive.address), "1").unwrap();
        Self(drive)
    }
}

impl Drop for Unplugged {
    fn drop(&mut self) {
        put_back("echo 1 > /sys/bus/pci/rescan");
        let is_back = |drive: &Drive| drive.address == self.0.address;
        until("the drive is back", || Drive::find(&self.0.serial).filter(is_back));
        // Its files get their owner from udev.
        put_back("udevadm settle --timeout=60");
    }
}
