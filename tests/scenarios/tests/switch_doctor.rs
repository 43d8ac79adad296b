//! `peermemctl doctor` and `peermemctl selftest` on real faults: profile `switch`, as root, one test at a time.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use serde_json::Value;

fn ctl(arguments: &[&str]) -> Output {
    Command::new("peermemctl").arg("--json").args(arguments).output().unwrap()
}

/// What doctor prints, with its exit code.
fn doctor(arguments: &[&str]) -> (Value, i32) {
    let output = ctl(&[&["doctor"], arguments].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (report, output.status.code().unwrap())
}

/// The findings of a check, as verdict and everything that it says.
fn findings(report: &Value, check: &str) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    findings.map(|finding| (finding["verdict"].as_str().unwrap().to_owned(), finding.to_string())).collect()
}

fn one(report: &Value, check: &str) -> (String, String) {
    let [one] = &findings(report, check)[..] else { panic!("{check}: {report:#}") };
    one.clone()
}

/// The name of the controller with this serial number.
fn controller(serial: &str) -> String {
    let names = std::fs::read_dir("/sys/class/nvme").unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| attribute(name, "serial") == serial).unwrap()
}

/// Its address.
fn drive(serial: &str) -> String {
    attribute(&controller(serial), "address")
}

fn attribute(controller: &str, name: &str) -> String {
    std::fs::read_to_string(format!("/sys/class/nvme/{controller}/{name}")).unwrap().trim().to_owned()
}

fn systemctl(what: &str) {
    let status = Command::new("systemctl").args([what, "peermemd.socket", "peermemd"]).status().unwrap();
    assert!(status.success(), "systemctl {what}");
}

#[test]
fn doctor_fails_drives_below_another_root_port() {
    let (report, exit) = doctor(&[]);
    assert_eq!(exit, 5, "{report:#}");
    let (verdict, text) = one(&report, "host-bridge");
    assert_eq!(verdict, "fail");
    assert!(text.contains("8086:29c0") && text.contains(&controller("c")), "{text}");
}

#[test]
fn doctor_finds_the_software_devices_defects() {
    let (report, _) = doctor(&[]);
    let (verdict, text) = one(&report, "rdma-on-demand");
    assert_eq!(verdict, "warn");
    assert!(text.contains("page-aligned") && text.contains("4096"), "{text}");
    // The preload library adds what stock rdma_rxe lacks.
    let output =
        Command::new("peermemctl").args(["--json", "doctor"]).env_remove("LD_PRELOAD").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (verdict, text) = one(&report, "rdma-dmabuf");
    assert_eq!(verdict, "warn");
    assert!(text.contains("rxe0") && text.contains("EOPNOTSUPP"), "{text}");
}

#[test]
fn doctor_passes_what_is_fine() {
    systemctl("stop");
    let (report, _) = doctor(&[]);
    for check in [
        "kernel-p2pdma",
        "kernel-on-demand",
        "kernel-dmabuf",
        "kernel-vfio-dmabuf",
        "rdma-node",
        "rdma-mtu",
        "acs-redirect",
        "iommu",
        "peer-memory",
        "memlock",
        "p2pmem",
        "p2pmem-leftover",
    ] {
        let verdicts: BTreeSet<_> =
            findings(&report, check).into_iter().map(|(verdict, _)| verdict).collect();
        assert_eq!(verdicts, ["pass".to_owned()].into(), "{check}: {report:#}");
    }
    assert_eq!(one(&report, "daemon").0, "warn", "it isn't running, and no socket would start it");
    systemctl("start");
    let (with_daemon, _) = doctor(&["--unit", "peermemd.service"]);
    systemctl("stop");
    assert_eq!(one(&with_daemon, "daemon").0, "pass", "{with_daemon:#}");
    assert!(one(&with_daemon, "memlock-unit").1.contains("LimitMEMLOCK"), "{with_daemon:#}");
}

#[test]
fn doctor_judges_a_pair_by_itself() {
    let [a, b, c] = ["a", "b", "c"].map(drive);
    let (near, _) = doctor(&["--pair", &a, &b]);
    assert_eq!(one(&near, "host-bridge").0, "pass", "{near:#}");
    assert!(near["path"]["verdict"]["accepted"].is_object(), "{near:#}");
    let (far, exit) = doctor(&["--pair", &a, &c]);
    assert_eq!((one(&far, "host-bridge").0.as_str(), exit), ("fail", 5), "{far:#}");
    let (other, exit) = (ctl(&["doctor", "--pair", "nvme77", &c]), 2);
    assert_eq!(other.status.code(), Some(exit), "{other:?}");
}

#[test]
fn doctor_notices_memory_without_a_lease() {
    use std::os::fd::AsFd;
    // A doctor that asks at the socket would have started it.
    systemctl("stop");
    let path = format!("/sys/bus/pci/devices/{}/p2pmem/allocate", drive("b"));
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let length = peermem_proto::ByteLen::new(1 << 20);
    let held = peermem::verbs::Memory::shared(file.as_fd(), 0, length).unwrap();
    systemctl("start");
    let (report, _) = doctor(&["--pair", &drive("b"), "rxe0"]);
    systemctl("stop");
    let (verdict, text) = one(&report, "p2pmem-leftover");
    assert!(verdict == "warn" && text.contains("1MiB are taken"), "{text}");
    drop(held);
    let (report, _) = doctor(&["--pair", &drive("b"), "rxe0"]);
    assert_eq!(one(&report, "p2pmem-leftover").0, "pass", "{report:#}");
}

#[test]
fn doctor_says_what_it_could_not_see_without_privilege() {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "peermemctl", "--json", "doctor"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let (verdict, text) = one(&report, "acs-redirect");
    assert!(verdict == "unknown" && text.contains("root"), "{text}");
    assert_eq!(one(&report, "host-bridge").0, "fail", "the verdict needs no privilege");
}

/// Every defect of rxe's on-demand paging is found, is only where it is known to be, and is one that the library refuses.
#[test]
fn selftest_finds_what_doctor_warns_of_and_the_library_refuses_it() {
    let output = ctl(&["selftest", "--device", "rxe0"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cells = report["cells"].as_array().unwrap();
    for cell in cells {
        let on_demand = cell["here"] == "on_demand" || cell["there"] == "on_demand";
        let whole_pages = cell["alignment"] == "page" && cell["mtu"] == 4096;
        let defect = &cell["defect"];
        assert!(defect.is_null() || on_demand && !whole_pages, "{cell}");
        assert!(defect.is_null() || defect["refused"] == true, "not refused: {cell}");
    }
    let wrong = |alignment: &str| {
        cells
            .iter()
            .any(|cell| cell["alignment"] == alignment && cell["mtu"] == 4096 && !cell["defect"].is_null())
    };
    assert!(["cache_line", "word", "byte"].into_iter().all(wrong), "{report}");
    let verbs: BTreeSet<_> = cells.iter().map(|cell| cell["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["read", "send", "write"].into());
}
