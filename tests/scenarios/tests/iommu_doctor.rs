//! Profile `iommu`: the kernel redirects what could go straight, and translates where bytes then get lost.
#![allow(missing_docs, clippy::unwrap_used)]

use peermem_scenarios::doctor::Diagnosis;

#[test]
fn redirection_and_translation_are_named() {
    let doctor = Diagnosis::with("");
    assert_eq!(doctor.exit, 5, "{:#}", doctor.report);
    doctor.says("acs-redirect", "fail", &["pci=disable_acs_redir=0000:"]);
    doctor.says("iommu", "warn", &["lost in silence"]);
    doctor.says("host-bridge", "fail", &["8086:29c0"]);
}
