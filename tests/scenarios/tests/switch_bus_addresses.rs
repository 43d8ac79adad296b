//! Profile `switch`: the bus address of a BAR, computed from its root port's windows, is what the BAR's register holds.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, path::Path};

use peermem_proto::{BusAddr, PciAddress};
use peermem_scenarios::{drive::Drive, vfio::snapshot};
use peermem_topology::{Bar, BusAddressError, bus_address_of_bar};

const SYSFS: &str = "/sys";

/// The address in a BAR's register; the lowest four bits say what kind it is.
fn register(address: PciAddress, bar: &Bar) -> BusAddr {
    let config = fs::read(format!("{SYSFS}/bus/pci/devices/{address}/config")).unwrap();
    let dword = |at: usize| u64::from(u32::from_le_bytes(*config[at..].first_chunk().unwrap()));
    let at = 0x10 + 4 * usize::from(bar.index);
    let upper = if bar.wide { dword(at + 4) } else { 0 };
    BusAddr::new(upper << 32 | dword(at) & !0xf)
}

#[test]
fn every_bar_below_a_root_port_is_where_its_register_says() {
    let snapshot = snapshot();
    let mut compared = Vec::new();
    for (&address, function) in &snapshot.functions {
        for bar in &function.details.bars {
            match bus_address_of_bar(Path::new(SYSFS), &snapshot, address, bar.index) {
                Ok(computed) => {
                    assert_eq!(computed, register(address, bar), "BAR {} of {address}", bar.index);
                    compared.push((address, bar.index));
                }
                Err(BusAddressError::OnRootBus(_)) => assert!(function.upstream.is_empty(), "{address}"),
                Err(error) => panic!("BAR {} of {address}: {error}", bar.index),
            }
        }
    }
    // A controller's registers and its CMB, below the switch and below another port.
    for drive in ["a", "b", "c"].map(Drive::named) {
        for bar in [0, 2] {
            assert!(compared.contains(&(drive.address, bar)), "{}: {compared:?}", drive.address);
        }
    }
}
