//! Faults of PCI functions, links, pools, and the ways between devices.

use peermem_doctor::{
    Verdict::{Fail, Pass, Unknown, Warn},
    check,
    facts::Unseen,
};
use peermem_proto::ByteLen;
use peermem_topology::{Acs, AcsControl, IommuDomain, IommuGroup};

use crate::{
    fires,
    machine::{DRIVE, DRIVE_PORT, GIB, GPU, NIC, QUEUES, ROOT_PORT, at, healthy, part, tree},
};

const REDIRECT: Acs = Acs::Control(AcsControl::new(0x1d));

#[test]
fn acs_names_bridge_register_and_option() {
    let words = [DRIVE_PORT, "0x001d", "pci=disable_acs_redir=0000:02:00.0"];
    // An AMD Zen passes it through the host bridge; another CPU doesn't.
    fires("acs-redirect", Warn, &words, |facts| part(facts, DRIVE_PORT).acs = REDIRECT);
    fires("acs-redirect", Fail, &words, |facts| {
        part(facts, DRIVE_PORT).acs = REDIRECT;
        tree(facts).cpu = None;
    });
    fires("acs-redirect", Unknown, &[DRIVE_PORT, "run as root"], |facts| {
        part(facts, DRIVE_PORT).acs = Acs::Unreadable;
    });
}

#[test]
fn a_host_bridge_that_the_kernel_does_not_know() {
    fires("host-bridge", Fail, &["1022:14d8", "0000:00:03.0", "one PCIe switch"], |facts| {
        tree(facts).cpu = None;
        let drive = part(facts, DRIVE).clone();
        let elsewhere = peermem_topology::Function { upstream: Vec::new(), ..drive };
        tree(facts).functions.insert(at("0000:00:03.0"), elsewhere);
    });
}

/// The tree was recorded in the guest `switch`; the kernel's answers are in the topology's own tests.
#[test]
fn the_recorded_guest_has_its_fault() {
    let text = include_str!("../../../../daemon/topology/tests/trees/switch_in_full.json");
    let mut facts = healthy();
    facts.topology = Ok(serde_json::from_str(text).unwrap());
    let findings = check::all(&facts);
    let found = findings.iter().find(|finding| finding.check == "host-bridge").unwrap();
    assert_eq!(found.verdict, Fail);
    assert!(found.why.as_ref().unwrap().contains("8086:29c0"), "{found:?}");
    // The GPU with each drive, drive C with A and B, all of it both ways; A with B is well.
    assert!(found.measured.starts_with("10 of 12 pairs"), "{found:?}");
    assert!(findings.iter().any(|finding| finding.check == "acs-redirect" && finding.verdict == Pass));
}

#[test]
fn iommu_modes() {
    let group = |domain| Some(IommuGroup { number: 7, domain });
    let all = |domain| {
        move |facts: &mut peermem_doctor::facts::Facts| {
            for address in [DRIVE, NIC, GPU] {
                part(facts, address).details.iommu = group(domain);
            }
        }
    };
    fires("iommu", Warn, &["nvme0", "iommu=pt"], all(Some(IommuDomain::DmaFq)));
    fires("iommu", Fail, &["blocks", "mlx5_0"], all(Some(IommuDomain::Blocked)));
    fires("iommu", Unknown, &["root"], all(None));
    fires("iommu", Pass, &["untranslated"], all(Some(IommuDomain::Identity)));
}

#[test]
fn functions_in_the_hands_of_user_space() {
    let bind = |facts: &mut peermem_doctor::facts::Facts, address, driver: &str| {
        part(facts, address).details.driver = Some(driver.parse().unwrap());
    };
    let group = |facts: &mut peermem_doctor::facts::Facts, address, number| {
        part(facts, address).details.iommu =
            Some(IommuGroup { number, domain: Some(IommuDomain::Unmanaged) });
    };
    fires("vfio", Pass, &["group of its own", GPU], |facts| {
        bind(facts, GPU, "vfio-pci");
        group(facts, GPU, 7);
        group(facts, DRIVE, 8);
    });
    let blocked = fires("vfio", Fail, &["as a whole", DRIVE], |facts| {
        bind(facts, GPU, "vfio-pci");
        bind(facts, DRIVE, "nvme");
        [GPU, DRIVE, ROOT_PORT].iter().for_each(|address| group(facts, address, 7));
    });
    assert_eq!(blocked.fix, Some(format!("driverctl set-override {DRIVE} vfio-pci")));
    fires("vfio", Warn, &["shares its IOMMU group", NIC], |facts| {
        bind(facts, GPU, "vfio-pci");
        [GPU, NIC].iter().for_each(|address| group(facts, address, 7));
    });
    fires("vfio", Warn, &["all memory", "no_iommu"], |facts| {
        bind(facts, GPU, "vfio-pci");
        part(facts, GPU).no_iommu_group = Some(1);
    });
}

#[test]
fn two_sockets() {
    fires("numa", Warn, &["2 of 4 pairs", "topo"], |facts| part(facts, NIC).details.numa_node = Some(1));
    fires("numa", Pass, &["one NUMA node"], |facts| facts.numa_nodes = Some(1));
    fires("numa", Unknown, &["firmware"], |facts| {
        for address in [DRIVE, NIC, GPU] {
            part(facts, address).details.numa_node = None;
        }
    });
}

#[test]
fn a_link_below_its_best() {
    let slow = fires("link", Warn, &["8.0 GT/s x4", "25%", "lspci"], |facts| {
        let link = part(facts, NIC).details.link.as_mut().unwrap();
        link.current = Some("8.0 GT/s x4".parse().unwrap());
    });
    assert!(slow.about.starts_with(NIC), "{slow:?}");
    // A device that can't do more than it does isn't slow, whatever its slot could.
    fires("link", Pass, &["at their best"], |facts| {
        let link = part(facts, NIC).details.link.as_mut().unwrap();
        (link.current, link.max) = (Some("8.0 GT/s x4".parse().unwrap()), "8.0 GT/s x4".parse().unwrap());
    });
    fires("link", Warn, &["0000:01:00.0"], |facts| {
        let link = part(facts, "0000:01:00.0").details.link.as_mut().unwrap();
        link.current = Some("16.0 GT/s x4".parse().unwrap());
        assert_ne!(part(facts, ROOT_PORT).details.link, None);
    });
}

#[test]
fn graphics_memory_behind_a_small_bar() {
    let small = |facts: &mut peermem_doctor::facts::Facts| {
        part(facts, GPU).details.bars[0].size = ByteLen::new(256 << 20);
    };
    fires("bar-size", Warn, &["256MiB for 16GiB", "could have 16GiB", "Resizable BAR"], small);
    fires("bar-size", Warn, &["could have 16GiB"], |facts| {
        small(facts);
        facts.vram.clear();
    });
    fires("bar-size", Warn, &["for 32GiB"], |facts| {
        facts.vram.insert(at(GPU), ByteLen::new(32 * GIB));
    });
    fires("bar-size", Unknown, &["doesn't say"], |facts| facts.vram.clear());
}

#[test]
fn pools_that_are_withheld_empty_or_missing() {
    let pool = |facts: &mut peermem_doctor::facts::Facts, change: fn(&mut peermem_topology::P2pmem)| {
        change(part(facts, DRIVE).details.p2pmem.as_mut().unwrap());
    };
    fires("p2pmem", Warn, &["not published", "CMBSZ"], |facts| pool(facts, |pool| pool.published = false));
    let used_up =
        |facts: &mut peermem_doctor::facts::Facts| pool(facts, |pool| pool.available = ByteLen::ZERO);
    fires("p2pmem", Pass, &["65408KiB of 64MiB are free"], used_up);
    fires("p2pmem", Warn, &["0B of 64MiB", "leases"], |facts| {
        facts.daemon.as_mut().unwrap().regions[0].free = ByteLen::ZERO;
    });
    fires("p2pmem", Warn, &["0B of 64MiB", "leases"], |facts| {
        used_up(facts);
        facts.daemon = Err(Unseen("no socket".to_owned()));
    });
    fires("p2pmem", Warn, &["no p2pmem pool", "CONFIG_PCI_P2PDMA"], |facts| {
        part(facts, DRIVE).details.p2pmem = None;
    });
    fires("provider", Warn, &["--emulate"], |facts| {
        tree(facts).functions.retain(|address, _| *address == at(NIC));
        tree(facts).nvme.clear();
        tree(facts).nodes.clear();
    });
}

#[test]
fn memory_that_nobody_has_leased() {
    let taken = |facts: &mut peermem_doctor::facts::Facts, bytes: u64| {
        let pool = part(facts, DRIVE).details.p2pmem.as_mut().unwrap();
        pool.available = ByteLen::new((64 << 20) - QUEUES - bytes);
    };
    let leased = |facts: &mut peermem_doctor::facts::Facts, bytes: u64| {
        let region = &mut facts.daemon.as_mut().unwrap().regions[0];
        region.free = ByteLen::new(region.size.get() - bytes);
    };
    let held = |facts: &mut peermem_doctor::facts::Facts, bytes: u64| {
        facts.daemon.as_mut().unwrap().holds = Ok([(at(DRIVE), ByteLen::new(bytes))].into());
    };
    fires("p2pmem-leftover", Warn, &["3MiB are taken", "leased (1MiB)", "/proc/"], |facts| {
        taken(facts, 4 << 20);
        leased(facts, 1 << 20);
    });
    fires("p2pmem-leftover", Pass, &["are leased"], |facts| {
        taken(facts, 4 << 20);
        leased(facts, 4 << 20);
    });
    fires("p2pmem-leftover", Pass, &["held for leases to come"], |facts| {
        taken(facts, 8 << 20);
        held(facts, 4 << 20);
        leased(facts, 4 << 20);
    });
    fires("p2pmem-leftover", Warn, &["1MiB are taken", "held for leases (6MiB)"], |facts| {
        taken(facts, 8 << 20);
        held(facts, 6 << 20);
        leased(facts, 2 << 20);
        facts.daemon.as_mut().unwrap().regions[0].missing = ByteLen::new(1 << 20);
    });
    fires("p2pmem-leftover", Unknown, &["run as root"], |facts| {
        taken(facts, 8 << 20);
        facts.daemon.as_mut().unwrap().holds = Err(Unseen("run as root".to_owned()));
    });
    fires("p2pmem-leftover", Pass, &["beyond the driver's"], |facts| leased(facts, 4 << 20));
    fires("p2pmem-leftover", Unknown, &["only the daemon knows"], |facts| {
        taken(facts, 4 << 20);
        facts.daemon = Err(Unseen("no socket".to_owned()));
    });
    fires("p2pmem-leftover", Unknown, &["isn't known"], |facts| facts.driver_shares.clear());
}
