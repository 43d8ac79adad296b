//! `[[vfio.bar]]`, `[[vfio.initiator]]`, `vfio.backend` and `vfio.no_iommu`.

use std::{collections::BTreeSet, path::Path};

use peermem_proto::{PciAddress, RegionName};
use serde::Deserialize;
use toml::Spanned;

use super::validate::{Wrong, function, once, wrong};
use crate::{
    mapper::AddressBits,
    sys::vfio::BarIndex,
    vfio::{Backend, InitiatorRules, Rules},
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    bar: Vec<Bar>,
    initiator: Vec<Initiator>,
    no_iommu: Vec<Spanned<PciAddress>>,
    backend: Backend,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bar {
    device: Spanned<PciAddress>,
    bar: Spanned<u8>,
    name: Spanned<RegionName>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Initiator {
    device: Spanned<PciAddress>,
    address_bits: Option<Spanned<u8>>,
    #[serde(default)]
    give_device: bool,
}

pub(super) fn validate(file: File, sysfs: &Path, names: &mut BTreeSet<RegionName>) -> Result<Rules, Wrong> {
    let mut rules = Rules { backend: file.backend, ..Rules::default() };
    for Bar { device, bar, name } in file.bar {
        function(sysfs, &device)?;
        let number = *bar.get_ref();
        let index = BarIndex::new(number).ok_or_else(|| {
            wrong(
                &bar,
                format!("no function has a BAR {number}: expected 0 to 5, as `lspci -v` numbers them"),
            )
        })?;
        let bars = rules.bars.entry(*device.get_ref()).or_default();
        if bars.contains_key(&index) {
            return Err(wrong(&bar, format!("{index} of {} is already a region", device.get_ref())));
        }
        bars.insert(index, once(names, &name)?);
    }
    for initiator in file.initiator {
        function(sysfs, &initiator.device)?;
        let device = *initiator.device.get_ref();
        if rules.bars.contains_key(&device) {
            let message = format!(
                "BARs of {device} are regions: who drives an initiator can reach all of its BARs, so it can't be both"
            );
            return Err(wrong(&initiator.device, message));
        }
        let address_bits = match &initiator.address_bits {
            None => AddressBits::ALL,
            Some(bits) => AddressBits::new(*bits.get_ref()).ok_or_else(|| {
                let message = format!("{} address bits: expected 12 to 64", bits.get_ref());
                wrong(bits, message)
            })?,
        };
        let known = InitiatorRules { address_bits, give_device: initiator.give_device };
        if rules.initiators.insert(device, known).is_some() {
            return Err(wrong(&initiator.device, format!("{device} is already an initiator")));
        }
    }
    for device in file.no_iommu {
        let named = *device.get_ref();
        if !rules.bars.contains_key(&named) && !rules.initiators.contains_key(&named) {
            let message = format!("{named} is in no `[[vfio.bar]]` and no `[[vfio.initiator]]`");
            return Err(wrong(&device, message));
        }
        if !rules.no_iommu.insert(named) {
            return Err(wrong(&device, format!("{named} is already named")));
        }
    }
    Ok(rules)
}
