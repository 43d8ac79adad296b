//! One PCI function's directory.

use std::path::Path;

use peermem_proto::{ByteLen, PciAddress};

use super::{
    SysfsError, bars,
    file::{attribute, canonical, detail, number, target},
    pci_directory,
};
use crate::{
    config_spaces::ConfigSpaces,
    function::{Details, Function, IommuDomain, IommuGroup, P2pmem},
    id::{PciId, RootBus},
    link::{Link, LinkMode, LinkSpeed},
};

pub(super) fn read(
    sysfs: &Path,
    address: PciAddress,
    configs: &ConfigSpaces,
) -> Result<Function, SysfsError> {
    let link = pci_directory(sysfs, address);
    let path = canonical(&link)?;
    let (root, mut upstream) = place(&path).ok_or_else(|| {
        SysfsError::content(&link, "a path below a root bus, such as pci0000:00", &path.to_string_lossy())
    })?;
    if upstream.pop() != Some(address) {
        return Err(SysfsError::content(
            &link,
            "a path that ends in the same address",
            &path.to_string_lossy(),
        ));
    }
    Ok(Function {
        id: PciId { vendor: number(&path.join("vendor"))?, device: number(&path.join("device"))? },
        class: attribute(&path.join("class"), "a class code such as 0x010802", |text| text.parse().ok())?,
        // Attributes of PCI Express functions only: `pcie_dev_attrs_are_visible` in drivers/pci/pci-sysfs.c.
        express: path.join("max_link_speed").exists(),
        root,
        upstream,
        acs: configs.acs(address, &path.join("config")),
        no_iommu_group: target(&path.join(IOMMU_GROUP)).filter(|_| is_made_up(&path)),
        details: Details::default(),
    })
}

/// The root bus and the functions below it on a path such as `/sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0`.
///
/// A root bus may itself lie below a PCI function (Intel VMD: `.../0000:00:0e.0/pci10000:e0/...`): the last one counts,
/// as for `pci_upstream_bridge`, which stops at a root bus.
fn place(path: &Path) -> Option<(RootBus, Vec<PciAddress>)> {
    let components: Vec<_> = path.iter().map(|component| component.to_str()).collect::<Option<_>>()?;
    let root_bus = |component: &str| component.strip_prefix("pci")?.parse::<RootBus>().ok();
    let last = components.iter().rposition(|component| root_bus(component).is_some())?;
    let functions =
        components[last + 1..].iter().map(|component| component.parse().ok()).collect::<Option<_>>()?;
    Some((root_bus(components[last])?, functions))
}

/// What the verdict doesn't depend on. `path` may be the link to the function's directory.
pub(super) fn details(path: &Path) -> Details {
    Details {
        driver: target(&path.join("driver")),
        // -1 where the firmware doesn't say.
        numa_node: detail(&path.join("numa_node")),
        iommu: target(&path.join(IOMMU_GROUP))
            .filter(|_| !is_made_up(path))
            .map(|number| IommuGroup { number, domain: iommu_domain(&path.join("iommu_group/type")) }),
        vfio_device: vfio_device(&path.join("vfio-dev")),
        link: link(path),
        bars: bars::read(path),
        physical_function: target(&path.join("physfn")),
        p2pmem: p2pmem(&path.join("p2pmem")),
    }
}

/// The one entry of a function's `vfio-dev` is `vfioN`. It is there without a file below `/dev` too, and then has no `dev`
/// (`vfio_init_device_cdev` in drivers/vfio/device_cdev.c).
fn vfio_device(directory: &Path) -> Option<u32> {
    let entry = std::fs::read_dir(directory).ok()?.next()?.ok()?;
    let number = entry.file_name().to_str()?.strip_prefix("vfio")?.parse().ok();
    number.filter(|_| entry.path().join("dev").exists())
}

/// The link to a function's IOMMU group, in its directory.
const IOMMU_GROUP: &str = "iommu_group";

/// Whether the function's group is one of vfio's, with no IOMMU behind it. Other groups hardly ever have a name.
fn is_made_up(path: &Path) -> bool {
    let name = path.join(IOMMU_GROUP).join("name");
    attribute(&name, "a group's name", |name| Some(name == "vfio-noiommu")).unwrap_or(false)
}

fn iommu_domain(path: &Path) -> Option<IommuDomain> {
    let domain = |text: &str| {
        Some(match text {
            "DMA" => IommuDomain::Dma,
            "DMA-FQ" => IommuDomain::DmaFq,
            "identity" => IommuDomain::Identity,
            "blocked" => IommuDomain::Blocked,
            "unmanaged" => IommuDomain::Unmanaged,
            _ => return None,
        })
    };
    attribute(path, "a domain's type", domain).ok()
}

/// A port without a link below it says `Unknown` or a width of 0.
fn link(path: &Path) -> Option<Link> {
    let mode = |speed, width| {
        Some(LinkMode {
            speed: attribute(&path.join(speed), "a link speed", link_speed).ok()?,
            width: detail(&path.join(width)).filter(|lanes| (1..=32).contains(lanes))?,
        })
    };
    Some(Link {
        current: mode("current_link_speed", "current_link_width"),
        max: mode("max_link_speed", "max_link_width")?,
    })
}

/// `16.0 GT/s PCIe`, as `pci_speed_string` in `drivers/pci/probe.c` has it.
fn link_speed(text: &str) -> Option<LinkSpeed> {
    text.strip_suffix(" PCIe").unwrap_or(text).parse().ok()
}

fn p2pmem(directory: &Path) -> Option<P2pmem> {
    let bytes = |name| detail(&directory.join(name)).map(ByteLen::new);
    Some(P2pmem {
        size: bytes("size")?,
        available: bytes("available")?,
        published: detail::<u8>(&directory.join("published"))? != 0,
    })
}
