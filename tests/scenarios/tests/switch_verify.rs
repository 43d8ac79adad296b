//! `peermemctl verify` between two processes, over rxe: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Output, Stdio};

use peermem::Client;
use peermem_proto::Region;
use serde_json::Value;

/// The installed daemon, for as long as a test runs: it takes the drives' whole pools, which other scenarios want.
struct Daemon;

impl Daemon {
    fn start() -> Self {
        systemctl("start");
        Self
    }

    fn pools(&self) -> Vec<Region> {
        Client::connect().unwrap().regions().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        systemctl("stop");
    }
}

fn systemctl(what: &str) {
    assert!(
        Command::new("systemctl").args([what, "peermemd"]).status().unwrap().success(),
        "systemctl {what}"
    );
}

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

#[test]
fn bytes_between_two_drives_buffers_are_right_and_the_memory_is_free_again() {
    let daemon = Daemon::start();
    let before = daemon.pools();
    let [a, b] = [0, 1].map(|at: usize| before[at].name.to_string());
    for (listener, caller) in [(&a, &b), (&b, &a), (&a, &a)] {
        for output in between(listener, caller, "3MiB") {
            assert!(output.status.success(), "{output:?}");
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(result["verified"], true, "{result}");
            assert_eq!(result["here"]["method"], "on_demand");
            let transfers = result["transfers"].as_array().unwrap();
            assert!(transfers.iter().any(|transfer| transfer["bytes"] == 3 << 20), "{result}");
            assert!(transfers.iter().all(|transfer| transfer["wrong"].is_null()), "{result}");
        }
    }
    assert_eq!(daemon.pools(), before);
}

#[test]
fn packets_smaller_than_a_page_are_refused_before_they_go_wrong() {
    let daemon = Daemon::start();
    let pools = daemon.pools();
    set_mtu("1500");
    let outputs = between(pools[0].name.as_str(), pools[1].name.as_str(), "1MiB");
    set_mtu("9000");
    for output in outputs {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("MTU 9000"), "both ends are told: {text}");
    }
}

/// The guest's interface below rxe0.
fn set_mtu(mtu: &str) {
    assert!(Command::new("ip").args(["link", "set", "eth0", "mtu", mtu]).status().unwrap().success());
}
