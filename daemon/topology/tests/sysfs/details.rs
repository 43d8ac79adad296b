//! What the verdict doesn't depend on: speed, size, placement, and the devices of the classes.

use std::{fs, os::unix::fs::symlink, path::Path};

use peermem_proto::{ByteLen, Initiator, PciAddress, Route};
use peermem_topology::{
    ConfigSpaces, Dax, DeviceName, IommuDomain, IommuGroup, Link, Nvme, P2pmem, Snapshot,
};

use super::{
    at,
    tree::{ETHERNET, NVME, ROOT_PORT, Tree, express},
};

const PORT: &str = "pci0000:00/0000:00:03.0";
const DRIVE: &str = "pci0000:00/0000:00:03.0/0000:01:00.0";

fn read(tree: &Tree) -> Snapshot {
    Snapshot::read_in_full(tree.sysfs(), None, &ConfigSpaces::default()).unwrap()
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (file, text) in files {
        let path = directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

#[test]
fn of_a_function() {
    let tree = Tree::new();
    let drive = tree.function(DRIVE, (0x1b36, 0x0010), NVME, &express(None));
    write(
        &drive,
        &[
            ("numa_node", "1"),
            ("current_link_speed", "8.0 GT/s PCIe"),
            ("current_link_width", "4"),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("max_link_width", "8"),
            ("p2pmem/size", "67108864"),
            ("p2pmem/available", "66977792"),
            ("p2pmem/published", "1"),
            ("iommu_group/type", "DMA-FQ"),
            ("resource", "0x0000000000004000 0x0000000000007fff 0x0000000000140204"),
        ],
    );
    fs::rename(drive.join("iommu_group"), tree.sysfs().join("17")).unwrap();
    symlink("../../../../17", drive.join("iommu_group")).unwrap();
    symlink("../../../../bus/pci/drivers/nvme", drive.join("driver")).unwrap();
    symlink("../0000:01:00.7", drive.join("physfn")).unwrap();

    let verdict_only = Snapshot::read(tree.sysfs(), None, &ConfigSpaces::default()).unwrap();
    assert_eq!(verdict_only.functions[&at("0000:01:00.0")].details, Default::default());
    let details = &read(&tree).functions[&at("0000:01:00.0")].details;
    assert_eq!(details.driver, Some(name("nvme")));
    assert!(!details.is_vfio_bound());
    assert_eq!(details.numa_node, Some(1));
    assert_eq!(details.iommu, Some(IommuGroup { number: 17, domain: Some(IommuDomain::DmaFq) }));
    let link = Link { current: Some("8.0 GT/s x4".parse().unwrap()), max: "16.0 GT/s x8".parse().unwrap() };
    assert_eq!(details.link, Some(link));
    assert_eq!(details.bars.len(), 1);
    assert_eq!(details.bars[0].size, ByteLen::new(16 << 10));
    assert_eq!(details.physical_function, Some(at("0000:01:00.7")));
    let p2pmem =
        P2pmem { size: ByteLen::new(64 << 20), available: ByteLen::new(66_977_792), published: true };
    assert_eq!(details.p2pmem, Some(p2pmem));
    assert_eq!(details.vfio_device, None);
}

#[test]
fn a_functions_own_file_has_a_number_and_may_be_missing() {
    let tree = Tree::new();
    let drive = tree.function(DRIVE, (0x1b36, 0x0010), NVME, &express(None));
    write(&drive, &[("vfio-dev/vfio12/uevent", "")]);
    let vfio_device = || read(&tree).functions[&at("0000:01:00.0")].details.vfio_device;
    assert_eq!(vfio_device(), None, "no file below /dev");
    write(&drive, &[("vfio-dev/vfio12/dev", "511:12")]);
    assert_eq!(vfio_device(), Some(12));
}

#[test]
fn a_group_that_vfio_made_up_is_no_iommu_s() {
    let tree = Tree::new();
    let drive = tree.function(DRIVE, (0x1b36, 0x0010), NVME, &express(None));
    write(&drive, &[("iommu_group/name", "vfio-noiommu")]);
    fs::rename(drive.join("iommu_group"), tree.sysfs().join("3")).unwrap();
    symlink("../../../../3", drive.join("iommu_group")).unwrap();
    let snapshot = read(&tree);
    let function = &snapshot.functions[&at("0000:01:00.0")];
    assert_eq!((function.no_iommu_group, function.details.iommu), (Some(3), None));
    // What no IOMMU translates goes the way that the kernel would judge by; what one translates doesn't.
    let initiator = Initiator::Vfio(at("0000:01:00.0"));
    assert!(!matches!(snapshot.route(at("0000:01:00.0"), &initiator), Ok(Route::Iommu {})));
    fs::write(tree.sysfs().join("3/name"), "another\n").unwrap();
    let snapshot = read(&tree);
    assert_eq!(snapshot.functions[&at("0000:01:00.0")].no_iommu_group, None);
    assert_eq!(snapshot.route(at("0000:01:00.0"), &initiator), Ok(Route::Iommu {}));
}

#[test]
fn that_say_nothing_or_nonsense_are_left_out() {
    let tree = Tree::new();
    let bare = tree.function(PORT, (0x1b36, 0x000c), ROOT_PORT, &express(None));
    let odd = tree.function(DRIVE, (0x1b36, 0x0010), NVME, &express(None));
    // Nothing is plugged into the port; the firmware doesn't say where the functions are.
    write(
        &bare,
        &[
            ("numa_node", "-1"),
            ("current_link_speed", "Unknown"),
            ("current_link_width", "0"),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("max_link_width", "16"),
        ],
    );
    write(
        &odd,
        &[
            ("numa_node", "99999999999"),
            ("max_link_speed", "17.0 GT/s PCIe"),
            ("max_link_width", "255"),
            ("p2pmem/size", "lots"),
            ("resource", "\u{0}"),
        ],
    );
    symlink("../\u{1b}[2J", odd.join("driver")).unwrap();
    let functions = read(&tree).functions;
    let details = &functions[&at("0000:00:03.0")].details;
    assert_eq!(details.link.unwrap().current, None);
    assert_eq!(details.numa_node, None);
    assert_eq!(functions[&at("0000:01:00.0")].details, Default::default());
}

#[test]
fn how_rdma_devices_appear_in_the_network() {
    let tree = Tree::new();
    tree.function(PORT, (0x15b3, 0x101d), ETHERNET, &express(None));
    let roce = tree.device("class/infiniband", &format!("{PORT}/infiniband/mlx5_0"));
    write(
        &roce,
        &[
            ("ports/1/gid_attrs/ndevs/0", "eth0"),
            ("ports/2/gid_attrs/ndevs/0", "eth1"),
            ("node_guid", "5054:00ff:fe12:3456"),
        ],
    );
    let infiniband = tree.device("class/infiniband", &format!("{PORT}/infiniband/mlx5_1"));
    write(&infiniband, &[("ports/1/lid", "0x1"), ("device/net/ib0/mtu", "2044"), ("node_guid", "none")]);
    let networks = read(&tree).networks;
    let network = &networks[&"mlx5_0".parse().unwrap()];
    assert_eq!(network.netdevs, [name("eth0"), name("eth1")]);
    assert_eq!(network.node_guid.unwrap().to_string(), "5054:00ff:fe12:3456");
    let network = &networks[&"mlx5_1".parse().unwrap()];
    assert_eq!((&network.netdevs[..], network.node_guid), (&[name("ib0")][..], None));
}

#[test]
fn nvme_controllers_and_their_namespaces() {
    let tree = Tree::new();
    let address: PciAddress = at("0000:01:00.0");
    tree.function(DRIVE, (0x1b36, 0x0010), NVME, &express(None));
    let one = tree.device("class/nvme", &format!("{DRIVE}/nvme/nvme0"));
    write(
        &one,
        &[("cmb", "cmbloc : 0x2"), ("nvme0n1/size", "8"), ("nvme0n2/size", "8"), ("hwmon1/name", "x")],
    );
    // With several paths to a namespace, the block device is that of the subsystem.
    let several = tree.device("class/nvme", &format!("{DRIVE}/nvme/nvme1"));
    write(&several, &[("nvme3c1n1/size", "8"), ("nvme0n1/size", "8")]);
    tree.device("class/nvme", "virtual/nvme-fabrics/ctl/nvme2");
    let nvme = read(&tree).nvme;
    let expected = Nvme { address, cmb: true, namespaces: vec![name("nvme0n1"), name("nvme0n2")] };
    assert_eq!(nvme[&name("nvme0")], expected);
    let expected = Nvme { address, cmb: false, namespaces: vec![name("nvme3n1")] };
    assert_eq!(nvme[&name("nvme1")], expected);
    assert_eq!(nvme.len(), 2, "a controller across a network is no peer");
}

#[test]
fn graphics_accelerator_and_dax_devices() {
    let tree = Tree::new();
    tree.function(PORT, (0x1002, 0x74a1), 0x030000, &express(None));
    for node in ["card0", "renderD128", "card0/card0-DP-1"] {
        tree.device("class/drm", &format!("{PORT}/drm/{node}"));
    }
    tree.device("class/drm", "platform/vgem/drm/card1");
    tree.device("class/accel", &format!("{PORT}/accel/accel0"));
    write(&tree.device("bus/dax/devices", "LNXSYSTM:00/ndbus0/dax0.0"), &[("size", "130023424")]);
    write(&tree.device("bus/dax/devices", &format!("{PORT}/mem0/dax1.0")), &[("size", "4096")]);
    tree.device("bus/dax/devices", "platform/dax2.0");
    let snapshot = read(&tree);
    let nodes: Vec<_> = snapshot.nodes.iter().map(|(node, at)| format!("{node} {at}")).collect();
    assert_eq!(nodes, ["accel0 0000:00:03.0", "card0 0000:00:03.0", "renderD128 0000:00:03.0"]);
    let on_memory_bus = Dax { size: ByteLen::new(130_023_424), address: None };
    assert_eq!(snapshot.dax[&name("dax0.0")], on_memory_bus);
    assert_eq!(snapshot.dax[&name("dax1.0")].address, Some(at("0000:00:03.0")));
    assert_eq!(snapshot.dax.len(), 2, "one without a size is on its way out");
}

#[test]
fn all_of_it_survives_recording() {
    let tree = Tree::new();
    let drive = tree.function(DRIVE, (0x1b36, 0x0010), NVME, &express(Some(0)));
    write(&drive, &[("p2pmem/size", "1"), ("p2pmem/available", "0"), ("p2pmem/published", "0")]);
    tree.device("class/nvme", &format!("{DRIVE}/nvme/nvme0"));
    let snapshot = read(&tree);
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    let unknown = json.replacen("\"available\"", "\"avail\"", 1);
    assert!(serde_json::from_str::<Snapshot>(&unknown).is_err(), "a misspelt field was taken");
    let escape = json.replace("nvme0", "nvme\\u001b");
    assert!(serde_json::from_str::<Snapshot>(&escape).is_err(), "an escape sequence was taken for a name");
}
