//! The Ethernet interface below the guest's RDMA device.

use crate::command::{put_back, run};

/// Its MTU, changed until dropped.
#[derive(Debug)]
pub struct LinkMtu(());

impl LinkMtu {
    /// Sets it, in bytes.
    pub fn set(bytes: u32) -> Self {
        run(&format!("ip link set eth0 mtu {bytes}"));
        Self(())
    }
}

impl Drop for LinkMtu {
    fn drop(&mut self) {
        // Room for path MTU 4096, as the guest has it.
        put_back("ip link set eth0 mtu 9000");
    }
}
