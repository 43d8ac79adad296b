//! `peermemctl verify` between two processes, over rxe: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Output, Stdio};

use peermem_proto::{ByteLen, Sharing};
use peermem_scenarios::{daemon::Daemon, drive::Drive, link::LinkMtu, vram, wait::until};
use serde_json::Value;

const ADDRESS: &str = "127.0.0.1:7471";

fn verify(end: &str, region: &str, more: &[&str]) -> Child {
    let mut command = Command::new("peermemctl");
    command.args(["--json", "verify", end, ADDRESS, "--region", region]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Both ends' outputs, the connecting one's first.
fn between(listener: &str, caller: &str, size: &str) -> [Output; 2] {
    let listening = verify("--listen", listener, &["--size", size]);
    let calling = verify("--connect", caller, &["--size", size]);
    [calling, listening].map(|end| end.wait_with_output().unwrap())
}

/// Both ends must have found every byte right; the methods of the connecting one's memory and the other's.
fn verified(outputs: [Output; 2], longest: u64) -> (Value, Value) {
    let [calling, listening] = outputs.map(|output| {
        assert!(output.status.success(), "{output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["verified"], true, "{result}");
        let transfers = result["transfers"].as_array().unwrap();
        assert!(transfers.iter().any(|transfer| transfer["bytes"] == longest), "{result}");
        assert!(transfers.iter().all(|transfer| transfer["wrong"].is_null()), "{result}");
        result
    });
    assert_eq!(calling["here"], listening["there"], "both ends say the same");
    (calling["here"]["method"].clone(), calling["there"]["method"].clone())
}

#[test]
fn bytes_between_two_drives_buffers_are_right_and_the_memory_is_free_again() {
    let daemon = Daemon::start();
    let before = daemon.client().regions().unwrap();
    let [a, b] = ["a", "b"].map(|drive| Drive::named(drive).region().to_string());
    for (listener, caller) in [(&a, &b), (&b, &a), (&a, &a)] {
        let methods = verified(between(listener, caller, "3MiB"), 3 << 20);
        assert_eq!(methods, ("on_demand".into(), "on_demand".into()));
    }
    // Memory is zeroed after its lease has ended.
    until("all memory is free again", || (daemon.client().regions().unwrap() == before).then_some(()));
}

#[test]
fn bytes_between_a_drives_buffer_and_the_gpu_are_right() {
    let daemon = Daemon::start();
    let owner = daemon.client();
    let size = ByteLen::new(3 << 20);
    let _region = vram::register(&owner, vram::allocate(size), Sharing::Everyone).unwrap();
    let cmb = Drive::named("b").region().to_string();
    let methods = verified(between(&cmb, vram::NAME, "3MiB"), size.get());
    assert_eq!(methods, ("dmabuf".into(), "on_demand".into()));
    let methods = verified(between(vram::NAME, &cmb, "3MiB"), size.get());
    assert_eq!(methods, ("on_demand".into(), "dmabuf".into()));
}

#[test]
fn packets_smaller_than_a_page_are_refused_before_they_go_wrong() {
    let _daemon = Daemon::start();
    let [a, b] = ["a", "b"].map(|drive| Drive::named(drive).region().to_string());
    let small = LinkMtu::set(1500);
    let outputs = between(&a, &b, "1MiB");
    drop(small);
    for output in outputs {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("MTU 9000"), "both ends are told: {text}");
    }
}
