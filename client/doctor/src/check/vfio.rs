//! Whether functions on vfio-pci can serve their memory, or have others' mapped for them.

use peermem_proto::PciAddress;
use peermem_topology::Function;

use super::scope::{Scope, some};
use crate::Finding;

const CHECK: &str = "vfio";

pub(super) fn all(scope: &Scope<'_>) -> Vec<Finding> {
    let bound = scope.snapshot.functions.iter().filter(|(_, function)| function.details.is_vfio_bound());
    let bound: Vec<_> = bound.collect();
    let mut findings: Vec<_> =
        bound.iter().filter_map(|(address, function)| wrong(scope, **address, function)).collect();
    if findings.is_empty() && !bound.is_empty() {
        let each = some(bound.into_iter().map(|(&address, _)| scope.name(address)));
        findings.push(Finding::pass(CHECK, "node", format!("each has an IOMMU group of its own: {each}")));
    }
    findings
}

fn wrong(scope: &Scope<'_>, address: PciAddress, function: &Function) -> Option<Finding> {
    let about = scope.name(address);
    if function.no_iommu_group.is_some() {
        let why = "whoever drives it reads and writes all memory of the machine: peermemd takes it only when its config names it \
                   (`no_iommu`)";
        let measured = "no IOMMU translates what it emits";
        return Some(
            Finding::warn(CHECK, about, measured, why)
                .fix("switch the IOMMU on in the firmware, and boot with intel_iommu=on or amd_iommu=on"),
        );
    }
    let others: Vec<_> = scope.snapshot.shares_group_with(address).collect();
    let named = |others: &[(PciAddress, &Function)]| some(others.iter().map(|&(other, _)| scope.name(other)));
    let is_in_the_way = |(_, other): &(PciAddress, &Function)| {
        other.details.driver.is_some() && !other.details.is_vfio_bound()
    };
    let in_the_way: Vec<_> = others.iter().copied().filter(is_in_the_way).collect();
    if let Some(&(first, _)) = in_the_way.first() {
        let why = "vfio gives an IOMMU group as a whole: each function of it must be bound to vfio-pci or to no driver";
        let measured = format!("the kernel's drivers have others of its IOMMU group: {}", named(&in_the_way));
        return Some(
            Finding::fail(CHECK, about, measured, why)
                .fix(format!("driverctl set-override {first} vfio-pci")),
        );
    }
    (!others.is_empty()).then(|| {
        let why = "what is mapped for one, the others reach too, since the IOMMU can't tell them apart: peermemd serves its memory, \
                   and maps nothing for it";
        Finding::warn(CHECK, about, format!("it shares its IOMMU group with {}", named(&others)), why)
    })
}
