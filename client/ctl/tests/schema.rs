//! What commands print with `--json` is what `peermemctl schema` says.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/json_schema.rs"]
mod json_schema;
mod support;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use json_schema::assert_valid;
use serde_json::{Value, json};
use support::{Daemon, Holder, ctl, eventually};

/// Those whose output needs devices: a scenario of the guest checks it.
const IN_THE_GUEST: [&str; 3] = ["bench", "selftest", "verify"];

fn schema(arguments: &[&str]) -> Value {
    let output = ctl("/nonexistent".as_ref()).arg("schema").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The schema, and whose output was held against it.
struct Checked {
    document: Value,
    commands: BTreeSet<String>,
}

impl Checked {
    fn value(&mut self, command: &str, value: &Value) {
        assert_valid(&self.document, command, value);
        self.commands.insert(command.to_owned());
    }

    /// Runs a command and checks every line of what it prints, and what it says where it fails.
    fn run(&mut self, command: &mut Command, name: &str) {
        let output = command.output().unwrap();
        let lines = |bytes: &[u8]| -> Vec<Value> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let (said, errors) = (lines(&output.stdout), lines(&output.stderr));
        assert!(said.len() + errors.len() > 0, "{output:?}");
        said.iter().for_each(|value| self.value(name, value));
        errors.iter().for_each(|error| self.value("error", error));
    }

    fn holder(&mut self, daemon: &Daemon, arguments: &[&str]) -> (Holder, Value) {
        let (holder, lease) = daemon.holder(arguments);
        let lease = serde_json::to_value(lease).unwrap();
        self.value(arguments[0], &lease);
        (holder, lease)
    }
}

#[test]
fn every_command_prints_what_its_schema_says() {
    let mut checked = Checked { document: schema(&[]), commands: BTreeSet::new() };
    let daemon = Daemon::start();
    let mut watch = daemon.command(&["watch"]).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the watcher is connected", || daemon.json(&["status"])["connections"].as_u64() >= Some(3));

    const MAP: [&str; 6] = ["map", "emulated", "--initiator", "emulated", "--size", "64KiB"];
    let (_held, lease) = checked.holder(&daemon, &[&MAP[..], &["--lease-secs", "600"]].concat());
    let (mut passing, _) = checked.holder(&daemon, &[&MAP[..], &["--delegate"]].concat());
    let token = passing.next_line();
    checked.value("map", &token);
    let (_claimed, _) = checked.holder(&daemon, &["claim", token["token"].as_str().unwrap()]);
    assert_eq!(passing.end(), 0);
    for arguments in [
        &["status"][..],
        &["regions"],
        &["leases"],
        &["revoke", &lease["id"].to_string(), "4000"],
        &["leases"],
        &["explain", "--user", "0", "--region", "emulated"],
        &["explain", "--user", "4000", "--action", "watch"],
        &["map", "nowhere", "--size", "4KiB", "--initiator", "emulated"],
        &["doctor"],
    ] {
        checked.run(&mut daemon.command(arguments), arguments[0]);
    }
    std::fs::write(daemon.config(), "[limits]\nleases = 0\n").unwrap();
    daemon.reload();
    eventually("status tells of the config", || daemon.json(&["status"])["config_refused"].is_string());
    checked.run(&mut daemon.command(&["status"]), "status");

    let mut kinds = BTreeSet::new();
    for line in BufReader::new(watch.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        checked.value("watch", &event);
        kinds.insert(event["kind"].as_str().unwrap().to_owned());
        if kinds.contains("refused") {
            break;
        }
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    for kind in ["lease_granted", "lease_delegated", "lease_revoked", "refused"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }

    for tree in std::fs::read_dir("../../daemon/topology/tests/trees").unwrap() {
        let tree = tree.unwrap().path();
        if tree.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let topo = |more: &[&str]| {
            let mut command = daemon.command(&["topo", "--snapshot"]);
            command.arg(&tree).args(more);
            command
        };
        checked.run(&mut topo(&[]), "topo");
        let matrix: Value = serde_json::from_slice(&topo(&[]).output().unwrap().stdout).unwrap();
        let names = |key: &str, name: &dyn Fn(&Value) -> String| -> Vec<String> {
            matrix[key].as_array().unwrap().iter().map(name).collect()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for provider in names("providers", &|provider| text(&provider["address"])) {
            for initiator in names("initiators", &text) {
                let device = initiator.split_once(':').map_or(&*initiator, |(_, device)| device);
                checked.run(&mut topo(&["--pair", &provider, device]), "topo");
            }
        }
    }

    for name in checked.document["$defs"].as_object().unwrap().keys() {
        let is_for_users = ctl(&daemon.socket).args(["schema", name]).output().unwrap().status.success();
        let was_run = checked.commands.contains(name) || IN_THE_GUEST.contains(&&**name);
        assert_eq!(was_run, is_for_users, "{name}");
        if is_for_users {
            assert_eq!(schema(&[name])["$ref"], format!("#/$defs/{name}"));
        }
    }
}

#[test]
fn a_command_that_prints_no_json_has_no_schema() {
    let output = ctl("/nonexistent".as_ref()).args(["schema", "completions"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("possible values: status, regions"),
        "{output:?}"
    );
}

#[test]
fn the_check_finds_what_is_wrong() {
    let document = schema(&[]);
    let mut error = json!({ "error": "failed", "message": "why" });
    assert_valid(&document, "error", &error);
    for (field, value) in [("message", json!(1)), ("more", json!("of it"))] {
        error[field] = value;
        let wrong = std::panic::catch_unwind(|| assert_valid(&document, "error", &error));
        assert!(wrong.is_err(), "{error}");
        error = json!({ "error": "failed", "message": "why" });
    }
    let missing =
        std::panic::catch_unwind(|| assert_valid(&document, "error", &json!({ "error": "failed" })));
    assert!(missing.is_err());
}
