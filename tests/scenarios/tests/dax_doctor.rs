//! Profile `dax`: one drive and persistent memory; soft-RoCE's defect is there.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use peermem_scenarios::doctor::Diagnosis;

#[test]
fn the_software_devices_defect_is_found() {
    assert!(Path::new("/dev/dax0.0").exists(), "the profile's device DAX is missing");
    let doctor = Diagnosis::with("");
    assert_eq!(doctor.exit, 6, "{:#}", doctor.report);
    doctor.says("rdma-on-demand", "warn", &["moves wrong bytes unless page-aligned"]);
    doctor.says("p2pmem", "pass", &["published"]);
}
