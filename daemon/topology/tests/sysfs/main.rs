//! Reading a snapshot from sysfs trees. The trees are composed by hand, after the layout that Linux 7.3 shows.
#![allow(missing_docs, clippy::unwrap_used)]

mod details;
mod tree;

use std::{
    error::Error,
    fs,
    os::unix::fs::{FileExt, symlink},
};

use peermem_proto::{PciAddress, RdmaName};
use peermem_topology::{Acs, AcsControl, Attachment, ConfigSpaces, Cpu, RootBus, Snapshot, SysfsError};

use tree::{ETHERNET, NVME, ROOT_PORT, Tree, conventional, express, unprivileged};

fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn read(tree: &Tree) -> Snapshot {
    let configs = ConfigSpaces::open(tree.sysfs()).unwrap();
    Snapshot::read(tree.sysfs(), None, &configs).unwrap()
}

#[test]
fn a_function_and_the_bridges_above_it() {
    let tree = Tree::new();
    tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(Some(0x1d)));
    tree.function("pci0000:00/0000:00:03.0/0000:01:00.0", (0x1b36, 0x0010), NVME, &express(None));
    tree.function("pci0000:00/0000:00:1f.3", (0x8086, 0x2930), 0x0c0500, &conventional());
    let snapshot = read(&tree);

    let root = RootBus { domain: 0, bus: 0 };
    let port = &snapshot.functions[&at("0000:00:03.0")];
    assert_eq!(port.acs, Acs::Control(AcsControl::new(0x1d)));
    assert!(port.is_root_port() && port.upstream.is_empty());
    assert_eq!(port.root, root);

    let drive = &snapshot.functions[&at("0000:01:00.0")];
    assert_eq!(drive.id.to_string(), "1b36:0010");
    assert_eq!(drive.class.get(), NVME);
    assert_eq!((drive.root, drive.upstream.as_slice()), (root, [at("0000:00:03.0")].as_slice()));
    assert_eq!(drive.acs, Acs::Absent);
    assert!(drive.express && !drive.is_root_port());

    let smbus = &snapshot.functions[&at("0000:00:1f.3")];
    assert_eq!(smbus.acs, Acs::Absent, "conventional PCI has no ACS");
    assert!(!smbus.express);
}

#[test]
fn the_last_root_bus_of_a_path_counts() {
    let tree = Tree::new();
    tree.function("pci0000:00/0000:00:0e.0", (0x8086, 0x201d), 0x010400, &express(None));
    let path = "pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:02.0/10000:e1:00.0";
    tree.function(path, (0x8086, 0x0a54), NVME, &express(None));
    let drive = &read(&tree).functions[&at("10000:e1:00.0")];
    assert_eq!(drive.root, RootBus { domain: 0x10000, bus: 0xe0 });
    assert_eq!(drive.upstream, [at("10000:e0:02.0")]);
}

#[test]
fn what_rdma_devices_are_attached_to() {
    let tree = Tree::new();
    let nic = "pci0000:00/0000:00:03.0";
    tree.function(nic, (0x15b3, 0x101d), ETHERNET, &express(None));
    tree.rdma(&format!("{nic}/infiniband/mlx5_0"));
    tree.rdma(&format!("{nic}/mlx5_core.sf.4/infiniband/mlx5_1"));
    tree.rdma("virtual/infiniband/rxe0");
    tree.rdma("platform/HISI00D1:00/infiniband/hns_0");
    let rdma = read(&tree).rdma;
    let pci = Attachment::Pci { address: at("0000:00:03.0") };
    for (name, expected) in
        [("mlx5_0", pci), ("mlx5_1", pci), ("rxe0", Attachment::Software {}), ("hns_0", Attachment::Other {})]
    {
        assert_eq!(rdma[&name.parse::<RdmaName>().unwrap()], expected, "{name}");
    }
}

#[test]
fn a_truncated_configuration_space_is_unreadable() {
    let tree = Tree::new();
    tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &unprivileged());
    assert_eq!(read(&tree).functions[&at("0000:00:03.0")].acs, Acs::Unreadable);
}

#[test]
fn acs_is_read_live() {
    let tree = Tree::new();
    let port = tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(Some(0)));
    let configs = ConfigSpaces::open(tree.sysfs()).unwrap();
    let config = fs::File::options().write(true).open(port.join("config")).unwrap();
    config.write_all_at(&0x1d_u16.to_le_bytes(), 0x14e).unwrap();
    let snapshot = Snapshot::read(tree.sysfs(), None, &configs).unwrap();
    assert_eq!(snapshot.functions[&at("0000:00:03.0")].acs, Acs::Control(AcsControl::new(0x1d)));
}

#[test]
fn a_function_plugged_in_later_is_looked_at_afresh() {
    let tree = Tree::new();
    let configs = ConfigSpaces::open(tree.sysfs()).unwrap();
    tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(Some(0x1d)));
    let later = Snapshot::read(tree.sysfs(), None, &configs).unwrap();
    assert_eq!(later.functions[&at("0000:00:03.0")].acs, Acs::Control(AcsControl::new(0x1d)));
}

#[test]
fn another_function_in_the_same_place_is_not_taken_for_the_old_one() {
    let tree = Tree::new();
    let port = tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(None));
    let configs = ConfigSpaces::open(tree.sysfs()).unwrap();
    fs::write(port.join("config.new"), express(Some(0x1d))).unwrap();
    fs::rename(port.join("config.new"), port.join("config")).unwrap();
    let after = Snapshot::read(tree.sysfs(), None, &configs).unwrap();
    assert_eq!(after.functions[&at("0000:00:03.0")].acs, Acs::Control(AcsControl::new(0x1d)));
}

#[test]
fn a_device_that_vanishes_is_left_out() {
    let tree = Tree::new();
    tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(None));
    let dangling = tree.function("pci0000:00/0000:00:04.0", (0x1b36, 0x000c), ROOT_PORT, &express(None));
    let half = tree.function("pci0000:00/0000:00:05.0", (0x1b36, 0x000c), ROOT_PORT, &express(None));
    tree.rdma("pci0000:00/0000:00:04.0/infiniband/mlx5_0");
    fs::remove_dir_all(dangling).unwrap();
    fs::remove_file(half.join("class")).unwrap();
    let snapshot = read(&tree);
    assert_eq!(snapshot.functions.keys().copied().collect::<Vec<_>>(), [at("0000:00:03.0")]);
    assert!(snapshot.rdma.is_empty());
}

#[test]
fn garbage_is_an_error_that_names_the_file() {
    for (file, garbage) in [
        ("vendor", "8086\n"),
        ("vendor", "0x18086\n"),
        ("device", ""),
        ("class", "0xfffffffff\n"),
        ("class", "0x+1\n"),
        ("class", &"0".repeat(1 << 20)),
        ("device", "\u{0}\u{0}"),
    ] {
        let tree = Tree::new();
        let function = tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(None));
        fs::write(function.join(file), garbage).unwrap();
        let error = Snapshot::read(tree.sysfs(), None, &ConfigSpaces::default()).unwrap_err();
        assert!(matches!(error, SysfsError::Content { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("0000:00:03.0/{file} should hold ")), "{text}");
        assert!(text.len() < 400, "what was found is shortened");
    }
}

#[test]
fn a_place_that_is_none_is_an_error() {
    let tree = Tree::new();
    tree.function("platform/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(None));
    let error = Snapshot::read(tree.sysfs(), None, &ConfigSpaces::default()).unwrap_err().to_string();
    assert!(error.contains("0000:00:03.0 should hold a path below a root bus"), "{error}");

    let tree = Tree::new();
    let function = tree.function("pci0000:00/0000:00:03.0", (0x1b36, 0x000c), ROOT_PORT, &express(None));
    symlink(function, tree.sysfs().join("bus/pci/devices/0000:00:04.0")).unwrap();
    let error = Snapshot::read(tree.sysfs(), None, &ConfigSpaces::default()).unwrap_err().to_string();
    assert!(error.contains("0000:00:04.0 should hold a path that ends in the same address"), "{error}");

    let tree = Tree::new();
    fs::create_dir(tree.sysfs().join("bus/pci/devices/virtio0")).unwrap();
    let error = ConfigSpaces::open(tree.sysfs()).unwrap_err().to_string();
    assert!(error.contains("bus/pci/devices should hold only PCI addresses"), "{error}");
}

#[test]
fn a_machine_without_pci_has_no_functions() {
    let empty = tempfile::tempdir().unwrap();
    let configs = ConfigSpaces::open(empty.path()).unwrap();
    assert_eq!(Snapshot::read(empty.path(), None, &configs).unwrap(), Snapshot::default());
}

#[test]
fn the_cpu_is_read_up_to_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let cpuinfo = directory.path().join("cpuinfo");
    let processor = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t: fpu\n\n";
    fs::write(&cpuinfo, processor.repeat(100_000)).unwrap();
    assert_eq!(Cpu::read(&cpuinfo).unwrap().unwrap().family, 25);
    let flags = "sse ".repeat(1 << 20);
    fs::write(&cpuinfo, format!("vendor_id\t: AuthenticAMD\nflags\t: {flags}\ncpu family\t: 25\n")).unwrap();
    assert_eq!(Cpu::read(&cpuinfo).unwrap(), None, "read past the bound");
    let error = Cpu::read(&directory.path().join("none")).unwrap_err();
    assert!(error.to_string().ends_with("none can't be read") && error.source().is_some());
}

/// Sysfs of whatever machine this runs on: the layout assumed here is the kernel's.
#[test]
fn this_machine_can_be_read() {
    let sysfs = std::path::Path::new("/sys");
    let configs = ConfigSpaces::open(sysfs).unwrap();
    let cpu = Cpu::read(std::path::Path::new("/proc/cpuinfo")).unwrap();
    let snapshot = Snapshot::read_in_full(sysfs, cpu, &configs).unwrap();
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
}
