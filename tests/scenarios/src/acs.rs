//! Access Control Services (ACS) of a port, changed as an administrator would.

use std::fs;

use peermem_proto::PciAddress;

use crate::{command::run, drive::Drive, wait::until};

/// The ACS Control register, for setpci(8).
const CONTROL: &str = "ECAP_ACS+6.w";

/// A port whose ACS redirects nothing, until dropped: the register is as it was then.
#[derive(Debug)]
pub struct NotRedirecting<'a> {
    port: PciAddress,
    before: String,
    drives: &'a [Drive],
}

impl<'a> NotRedirecting<'a> {
    /// Switches off all of the port's ACS. These are the drives below it.
    pub fn set(port: PciAddress, drives: &'a [Drive]) -> Self {
        let before = run(&format!("setpci -s {port} {CONTROL}")).trim().to_owned();
        let acs = Self { port, before, drives };
        acs.put("0");
        acs
    }

    /// The kernel keeps a pair's verdict for as long as the provider has its driver, so the drives lose theirs meanwhile.
    fn put(&self, control: &str) {
        for drive in self.drives {
            fs::write("/sys/bus/pci/drivers/nvme/unbind", drive.address.to_string()).unwrap();
        }
        run(&format!("setpci -s {} {CONTROL}={control}", self.port));
        for drive in self.drives {
            fs::write("/sys/bus/pci/drivers/nvme/bind", drive.address.to_string()).unwrap();
        }
        for drive in self.drives {
            until("a drive is back", || Drive::find(&drive.serial).filter(|drive| drive.disk.exists()));
        }
    }
}

impl Drop for NotRedirecting<'_> {
    fn drop(&mut self) {
        self.put(&self.before);
    }
}
