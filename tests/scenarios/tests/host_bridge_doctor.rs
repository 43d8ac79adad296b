//! Profile `host-bridge`: no pair is refused, and soft-RoCE's defect is still there.
#![allow(missing_docs, clippy::unwrap_used)]

use peermem_scenarios::doctor::Diagnosis;

#[test]
fn nothing_but_the_software_device_is_wrong() {
    let doctor = Diagnosis::with("");
    assert_eq!(doctor.exit, 6, "{:#}", doctor.report);
    doctor.says("host-bridge", "pass", &[]);
    doctor.says("rdma-on-demand", "warn", &["moves wrong bytes unless page-aligned"]);
}
