//! The initiator when nobody named one.

use std::fs;

use anyhow::Result;
use peermem::{
    Client,
    proto::{Initiator, RdmaName},
};

use crate::failure::Usage;

/// The node's RDMA device if it has exactly one, `emulated` where the daemon emulates and there is none.
pub(crate) fn default_for(client: &Client) -> Result<Initiator> {
    let devices = rdma_devices();
    let emulation = devices.is_empty() && client.status()?.emulation;
    Ok(choose(devices, emulation)?)
}

/// The devices in `/sys/class/infiniband`, by name. The folder is absent where no RDMA module is loaded.
pub(crate) fn rdma_devices() -> Vec<RdmaName> {
    let entries = fs::read_dir("/sys/class/infiniband").into_iter().flatten().flatten();
    let mut names: Vec<RdmaName> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    names
}

fn choose(devices: Vec<RdmaName>, emulation: bool) -> Result<Initiator, Usage> {
    match <[RdmaName; 1]>::try_from(devices) {
        Ok([only]) => Ok(Initiator::Rdma(only)),
        Err(none) if none.is_empty() && emulation => Ok(Initiator::Emulated),
        Err(none) if none.is_empty() => Err(Usage(
            "this node has no RDMA device: name the device that does the DMA by --initiator pci:..."
                .to_owned(),
        )),
        Err(several) => {
            let names: Vec<_> = several.iter().map(|name| format!("rdma:{name}")).collect();
            Err(Usage(format!(
                "this node has several RDMA devices: choose by --initiator {}",
                names.join(" or ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<RdmaName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_only_device_is_meant() {
        assert_eq!(choose(names(&["rxe0"]), true).unwrap().to_string(), "rdma:rxe0");
        assert_eq!(choose(names(&[]), true).unwrap(), Initiator::Emulated);
    }

    #[test]
    fn a_choice_is_asked_for_by_name() {
        let message = choose(names(&["mlx5_0", "mlx5_1"]), true).unwrap_err().to_string();
        assert!(message.contains("rdma:mlx5_0 or rdma:mlx5_1"), "{message}");
        assert!(choose(names(&[]), false).unwrap_err().to_string().contains("--initiator"));
    }
}
