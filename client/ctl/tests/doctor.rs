//! `peermemctl doctor` and `selftest` on whatever machine this is: their form, not what they find.
#![allow(clippy::unwrap_used)]

mod support;

use peermem::proto::status::Status;
use serde_json::Value;
use support::{Daemon, ctl, failure};

#[test]
fn it_works_without_the_daemon_and_its_exit_code_is_the_worst_finding() {
    let output = ctl("/nonexistent".as_ref()).args(["--json", "doctor"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdicts: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|f| f["verdict"].as_str().unwrap()).collect();
    let expected = if verdicts.contains(&"fail") { 5 } else { 6 };
    assert_eq!(output.status.code(), Some(expected), "{report:#}");
    let daemon = report["findings"].as_array().unwrap().iter().find(|f| f["check"] == "daemon").unwrap();
    assert_eq!(daemon["verdict"], "warn");
    assert!(daemon["measured"].as_str().unwrap().contains("/nonexistent"), "{daemon}");
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"], if expected == 5 { "checks_failed" } else { "checks_warned" });
}

#[test]
fn it_sees_the_daemon() {
    let daemon = Daemon::start();
    let status: Status = serde_json::from_value(daemon.json(&["status"])).unwrap();
    let output = ctl(&daemon.socket).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some("daemon")).unwrap();
    assert!(line.trim_start().starts_with("pass") && line.contains(&status.version), "{line}");
    assert!(!text.contains('\x1b'), "colours outside a terminal: {text:?}");
}

#[test]
fn unknown_devices_are_wrong_usage() {
    let daemon = Daemon::start();
    for arguments in
        [&["doctor", "--pair", "0000:ff:1f.7", "nosuch0"][..], &["selftest", "--device", "no/such"]]
    {
        let output = daemon.ctl(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
    let (exit, code, message) = failure(&daemon.ctl(&["doctor", "--pair", "0000:ff:1f.7", "nosuch0"]));
    assert_eq!((exit, code.as_str()), (2, "usage"), "{message}");
}
