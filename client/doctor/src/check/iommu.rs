//! Whether an IOMMU translates what the devices send.

use peermem_topology::IommuDomain;

use super::scope::{Scope, some};
use crate::Finding;

const CHECK: &str = "iommu";

pub(super) fn mode(scope: &Scope<'_>) -> Option<Finding> {
    let groups: Vec<_> = scope
        .functions()
        .into_iter()
        .filter_map(|address| Some((address, scope.snapshot.functions.get(&address)?.details.iommu?)))
        .collect();
    if groups.is_empty() {
        let any = !scope.functions().is_empty();
        return any.then(|| Finding::pass(CHECK, "node", "no IOMMU is in the way"));
    }
    let with = |is: fn(Option<IommuDomain>) -> bool| {
        let of_kind = groups.iter().filter(move |(_, group)| is(group.domain));
        of_kind.map(|&(address, _)| scope.name(address)).collect::<Vec<_>>()
    };
    let blocked = with(|domain| domain == Some(IommuDomain::Blocked));
    if !blocked.is_empty() {
        let why = "a device whose DMA is blocked reaches no memory at all";
        return Some(
            Finding::fail(CHECK, "node", format!("the IOMMU blocks {}", some(blocked)), why)
                .fix("bind the device to its driver"),
        );
    }
    let translated = with(|domain| matches!(domain, Some(IommuDomain::Dma | IommuDomain::DmaFq)));
    if !translated.is_empty() {
        let why = "with translation on, the kernel turns on ACS redirection, and bytes may be lost in silence: verify pairs \
                   with `peermemctl verify`";
        let measured = format!("the IOMMU translates for {}", some(translated));
        return Some(Finding::warn(CHECK, "node", measured, why).fix("boot with iommu=pt"));
    }
    let unread = with(|domain| domain.is_none());
    if !unread.is_empty() {
        let measured = format!("the type of the IOMMU domain of {} can't be read: run as root", some(unread));
        return Some(Finding::unknown(CHECK, "node", measured));
    }
    Some(Finding::pass(CHECK, "node", "the IOMMU lets addresses pass untranslated, or user space translates"))
}
