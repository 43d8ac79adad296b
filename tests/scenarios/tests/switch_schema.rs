//! What `peermemctl --json` prints of real devices is what `peermemctl schema` says: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

#[path = "../../json_schema.rs"]
mod json_schema;

use json_schema::assert_valid;
use peermem_proto::ByteLen;
use peermem_scenarios::{
    command::{described, json, peermemctl, run, succeed},
    daemon::Daemon,
    drive::Drive,
    leased::{request, rxe},
};
use serde_json::Value;

/// Runs a command, which may find something, and holds every line that it prints against its schema.
fn check(document: &Value, line: &str) {
    let output = peermemctl(line).output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!said.is_empty(), "`{line}`: {}", described(&output));
    let command = line.split(' ').next().unwrap();
    said.lines().for_each(|line| assert_valid(document, command, &json(line)));
}

#[test]
fn commands_print_what_their_schemas_say_of_real_devices() {
    let document = json(&succeed(&mut peermemctl("schema")));
    let daemon = Daemon::start();
    run("systemctl start peermem-selftest.service");
    let [a, b] = ["a", "b"].map(|drive| Drive::named(drive).region().to_string());
    let client = daemon.client();
    let _lease = client.map(&request(a.parse().unwrap(), ByteLen::new(4096), &[rxe()])).unwrap();
    for line in ["regions", "leases", "topo", "doctor", "selftest", "selftest --pairs"] {
        check(&document, line);
    }
    check(&document, &format!("topo --pair {} rxe0", Drive::named("a").address));
    check(&document, &format!("bench write --from {a} --to {b} --sizes 4KiB --recommend"));
    check(&document, &format!("bench send --from {a} --to {b} --sizes 4KiB"));
    let address = "127.0.0.1:7479";
    let mut listening =
        peermemctl(&format!("verify --listen {address} --region {a} --size 64KiB")).spawn().unwrap();
    check(&document, &format!("verify --connect {address} --region {b} --size 64KiB"));
    assert!(listening.wait().unwrap().success());
}
