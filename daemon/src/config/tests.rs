//! Every mistake gets the file, the line and what was expected.

use super::*;

fn error(text: &str) -> String {
    parse(Path::new("peermemd.toml"), text, Path::new("/nonexistent")).unwrap_err().to_string()
}

#[track_caller]
fn assert_says(text: &str, expected: &[&str]) {
    let message = error(text);
    for part in expected {
        assert!(message.contains(part), "{part:?} isn't in:\n{message}");
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse(Path::new("x"), "", Path::new("/sys")).unwrap(), Settings::default());
}

#[test]
fn everything_that_can_be_said() {
    let text = r#"
        [server]
        socket = "/run/x.sock"
        stall_secs = 3
        drain_secs = 0
        [metrics]
        listen = "127.0.0.1:9489"
        [limits]
        connections_per_user = 5
        leases_per_user = 6
        regions_per_connection = 7
        [p2pmem]
        enabled = false
        [registered]
        exporters = ["some_gpu"]
        [[emulated]]
        name = "scratch"
        size = "64MiB"
    "#;
    let settings = parse(Path::new("x"), text, Path::new("/sys")).unwrap();
    assert_eq!(settings.socket, Some("/run/x.sock".into()));
    assert_eq!(settings.metrics, Some("127.0.0.1:9489".parse().unwrap()));
    assert_eq!(settings.limits, Limits { leases_per_user: 6, regions_per_connection: 7 });
    assert_eq!(settings.connections.per_user, 5);
    assert_eq!(settings.connections.stall, Duration::from_secs(3));
    assert_eq!(settings.p2pmem, None);
    assert_eq!(settings.exporters, Exporters(["some_gpu".to_owned()].into()));
    assert_eq!(settings.emulated, [("scratch".parse().unwrap(), ByteLen::new(64 << 20))]);
}

#[test]
fn an_unknown_key_is_shown_with_those_that_exist() {
    assert_says(
        "[server]\nsocket = \"/x\"\nstall_seconds = 3\n",
        &[
            "peermemd.toml:3:1:",
            "unknown field `stall_seconds`",
            "`stall_secs`",
            "3 | stall_seconds = 3",
            "  | ^^^^",
        ],
    );
}

#[test]
fn a_wrong_unit_is_shown_with_the_right_ones() {
    assert_says(
        "[[emulated]]\nname = \"a\"\nsize = \"64MB\"\n",
        &["peermemd.toml:3:8:", "\"MB\"", "MiB", "^^^^^^"],
    );
    assert_says("[[emulated]]\nname = \"a\"\nsize = \"5000\"\n", &["peermemd.toml:3:8:", "multiple of 4KiB"]);
    assert_says("[[emulated]]\nname = \"a\"\nsize = \"0\"\n", &["multiple of 4KiB, at least one"]);
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    assert_says(
        "[[p2pmem.region]]\ndevice = \"0000:aa:00.0\"\nname = \"cmb\"\n",
        &["peermemd.toml:2:10:", "no PCI function 0000:aa:00.0", "lspci -D"],
    );
    assert_says(
        "[[p2pmem.region]]\ndevice = \"aa:00.0\"\n",
        &["peermemd.toml:2:10:", "such as 0000:3b:00.0"],
    );
}

#[test]
fn a_device_without_peer_memory_is_named() {
    let sysfs = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(sysfs.path().join("bus/pci/devices/0000:01:00.0")).unwrap();
    let text = "[[p2pmem.region]]\ndevice = \"0000:01:00.0\"\n";
    let message = parse(Path::new("x"), text, sysfs.path()).unwrap_err().to_string();
    assert!(message.contains("x:2:10:") && message.contains("no peer-to-peer memory"), "{message}");
}

#[test]
fn wrong_types_and_zeroes_are_shown() {
    assert_says("[server]\nstall_secs = \"3s\"\n", &["peermemd.toml:2:14:", "expected u64"]);
    assert_says("[limits]\nleases_per_user = 0\n", &["peermemd.toml:2:19:", "at least 1"]);
    assert_says("[metrics]\nlisten = \"9489\"\n", &["peermemd.toml:2:10:"]);
    assert_says("[server\n", &["peermemd.toml:1:"]);
}

#[test]
fn a_name_is_given_once() {
    let twice = "[[emulated]]\nname = \"a\"\nsize = \"4KiB\"\n[[emulated]]\nname = \"a\"\nsize = \"4KiB\"\n";
    assert_says(twice, &["peermemd.toml:5:8:", "two regions are named a"]);
    assert_says(
        "[[emulated]]\nname = \"a b\"\nsize = \"4KiB\"\n",
        &["peermemd.toml:2:8:", "can't name a region"],
    );
}

#[test]
fn a_missing_file_is_named() {
    let message = load(Path::new("/nonexistent/peermemd.toml"), Path::new("/sys")).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/peermemd.toml"), "{message}");
}
