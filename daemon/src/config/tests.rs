//! Every mistake gets the file, the line and what was expected.

use super::*;
use crate::{
    mapper::AddressBits,
    policy::Action,
    provider::p2pmem::{Amount, Plan},
    sys::vfio::BarIndex,
    vfio::Backend,
};

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
        journal = "/run/x.journal"
        stall_secs = 3
        drain_secs = 0
        [log]
        audit_namespace = "peermem"
        [metrics]
        listen = "127.0.0.1:9489"
        [limits]
        connections_per_user = 5
        requests_per_second_per_user = 8
        watchers_per_user = 9
        leases_per_user = 6
        bytes_per_user = "1MiB"
        descriptors_per_user = 7
        [leases]
        revoke_grace_secs = 11
        resume_grace_secs = 12
        [p2pmem]
        enabled = false
        [registered]
        exporters = ["some_gpu"]
        [[emulated]]
        name = "scratch"
        size = "64MiB"
        [[policy.rule]]
        name = "nobody"
        users = ["*"]
        allow = []
    "#;
    let settings = parse(Path::new("x"), text, Path::new("/sys")).unwrap();
    assert_eq!(settings.socket, Some("/run/x.sock".into()));
    assert_eq!(settings.metrics, Some("127.0.0.1:9489".parse().unwrap()));
    assert_eq!(settings.journal, Some("/run/x.journal".into()));
    assert_eq!(settings.audit_namespace, Some("peermem".parse().unwrap()));
    let limits = Limits {
        leases_per_user: 6,
        bytes_per_user: ByteLen::new(1 << 20),
        descriptors_per_user: 7,
        revoke_grace: Duration::from_secs(11),
        resume_grace: Duration::from_secs(12),
    };
    assert_eq!(settings.limits, limits);
    assert_eq!(settings.connections.per_user, 5);
    assert_eq!(settings.connections.requests_per_second, 8);
    assert_eq!(settings.connections.watchers_per_user, 9);
    assert_eq!(settings.connections.stall, Duration::from_secs(3));
    assert_eq!(settings.p2pmem, None);
    assert_eq!(settings.exporters, Exporters(["some_gpu".to_owned()].into()));
    assert_eq!(settings.emulated, [("scratch".parse().unwrap(), ByteLen::new(64 << 20))]);
    let rules: Vec<_> = settings.policy.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(rules, ["root", "nobody"]);
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

/// A node with two functions and a device DAX.
fn node() -> tempfile::TempDir {
    let sysfs = tempfile::tempdir().unwrap();
    for device in ["bus/pci/devices/0000:01:00.0", "bus/pci/devices/0000:02:00.0", "bus/dax/devices/dax0.0"] {
        std::fs::create_dir_all(sysfs.path().join(device)).unwrap();
    }
    sysfs
}

#[test]
fn what_vfio_and_dax_can_say() {
    let text = r#"
        [[vfio.bar]]
        device = "0000:01:00.0"
        bar = 2
        name = "fpga"
        [[vfio.initiator]]
        device = "0000:02:00.0"
        address_bits = 28
        give_device = true
        [vfio]
        no_iommu = ["0000:02:00.0"]
        backend = "iommufd"
        [[dax.region]]
        device = "dax0.0"
        name = "pmem"
    "#;
    let settings = parse(Path::new("x"), text, node().path()).unwrap();
    let bars = &settings.vfio.bars[&"0000:01:00.0".parse().unwrap()];
    assert_eq!(bars[&BarIndex::new(2).unwrap()].as_str(), "fpga");
    let initiator = settings.vfio.initiators[&"0000:02:00.0".parse().unwrap()];
    assert!(initiator.give_device);
    assert_eq!(settings.vfio.no_iommu, ["0000:02:00.0".parse().unwrap()].into());
    assert_eq!(settings.vfio.backend, Backend::Iommufd);
    assert_eq!(parse(Path::new("x"), "", node().path()).unwrap().vfio.backend, Backend::Auto);
    assert_eq!(initiator.address_bits, AddressBits::new(28).unwrap());
    assert_eq!(settings.dax[&"dax0.0".parse().unwrap()].as_str(), "pmem");
}

#[test]
fn what_vfio_and_dax_can_not_be_is_shown() {
    let node = node();
    let bar = |bar: &str, name: &str| {
        format!("[[vfio.bar]]\ndevice = \"0000:01:00.0\"\nbar = {bar}\nname = \"{name}\"\n")
    };
    let initiator = |device: &str, bits: &str| {
        format!("[[vfio.initiator]]\ndevice = \"0000:{device}:00.0\"\naddress_bits = {bits}\n")
    };
    let dax =
        |device: &str, name: &str| format!("[[dax.region]]\ndevice = \"{device}\"\nname = \"{name}\"\n");
    for (text, expected) in [
        (bar("6", "a"), "x:3:7: no function has a BAR 6: expected 0 to 5"),
        (bar("2", "a") + &bar("2", "b"), "x:7:7: BAR 2 of 0000:01:00.0 is already a region"),
        (bar("2", "a") + &bar("0", "a"), "x:8:8: two regions are named a"),
        (bar("2", "a") + &initiator("01", "64"), "x:6:10: BARs of 0000:01:00.0 are regions"),
        (initiator("02", "65"), "x:3:16: 65 address bits: expected 12 to 64"),
        (initiator("02", "64") + &initiator("02", "64"), "x:5:10: 0000:02:00.0 is already an initiator"),
        (
            "[vfio]\nno_iommu = [\"0000:02:00.0\"]\n".to_owned(),
            "x:2:13: 0000:02:00.0 is in no `[[vfio.bar]]`",
        ),
        (
            "[vfio]\nno_iommu = [\"0000:02:00.0\", \"0000:02:00.0\"]\n".to_owned() + &initiator("02", "64"),
            "x:2:29: 0000:02:00.0 is already named",
        ),
        ("[vfio]\nbackend = \"group\"\n".to_owned(), "x:2:11: "),
        (initiator("03", "64"), "x:2:10: no PCI function 0000:03:00.0"),
        (dax("dax1.0", "a"), "x:2:10: no device DAX dax1.0 on this node"),
        (dax("dax0.0", "a") + &dax("dax0.0", "b"), "x:5:10: dax0.0 is already a region"),
    ] {
        let message = parse(Path::new("x"), &text, node.path()).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{expected:?} isn't the start of:\n{message}");
    }
}

#[test]
fn what_the_daemon_holds_can_be_said_for_all_and_for_one() {
    let sysfs = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(sysfs.path().join("bus/pci/devices/0000:01:00.0/p2pmem")).unwrap();
    let text = r#"
        [p2pmem]
        hold = "48MiB"
        leave = "1MiB"
        [[p2pmem.region]]
        device = "0000:01:00.0"
        hold = "none"
    "#;
    let rules = parse(Path::new("x"), text, sysfs.path()).unwrap().p2pmem.unwrap();
    let plan = Plan { amount: Amount::AtMost(ByteLen::new(48 << 20)), leave: ByteLen::new(1 << 20) };
    assert_eq!(rules.plan, plan);
    assert_eq!(rules.amounts, [("0000:01:00.0".parse().unwrap(), Amount::Nothing)].into());
}

#[test]
fn holding_takes_a_word_or_a_size() {
    assert_says(
        "[p2pmem]\nhold = \"most\"\n",
        &["peermemd.toml:2:8:", "\"most\" isn't a size", "\"all\", or \"none\""],
    );
    assert_says("[p2pmem]\nhold = \"5000\"\n", &["peermemd.toml:2:8:", "multiple of 4KiB", "\"none\""]);
    assert_says("[p2pmem]\nleave = \"1MB\"\n", &["peermemd.toml:2:9:", "\"MB\"", "MiB"]);
}

#[test]
fn wrong_types_and_zeroes_are_shown() {
    assert_says("[server]\nstall_secs = \"3s\"\n", &["peermemd.toml:2:14:", "expected a whole number"]);
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

/// A rule for everyone, with more keys. The first line of `more` is the fourth one of the text.
fn rule(more: &str) -> String {
    format!("[[policy.rule]]\nname = \"a\"\nallow = [\"map\"]\n{more}\n")
}

#[test]
fn the_shipped_example_of_a_rule_is_good() {
    let shipped = include_str!("../../../systemd/peermemd.toml");
    let (_, example) = shipped.split_once("# [[policy.rule]]").unwrap();
    // These don't exist everywhere.
    let example = example
        .replace("\n# ", "\n")
        .replace("\"alice\"", "\"root\"")
        .replace("groups = [\"tenant-a\"]", "groups = [\"root\"]");
    let settings = parse(Path::new("x"), &format!("[[policy.rule]]{example}"), Path::new("/sys")).unwrap();
    let rule = &settings.policy.rules()[1];
    assert_eq!(rule.who.uids, [0..=0, 1000..=1000, 100_000..=165_535]);
    assert_eq!(rule.who.gids, [0].into());
    assert!(rule.regions.matches("gpu7") && !rule.regions.matches("gpu10"));
    assert!(rule.initiators.matches("pci:0000:3b:00.0") && !rule.initiators.matches("rdma:rxe0"));
    assert_eq!(rule.allow, Action::ALL.into());
    assert_eq!(rule.bounds.bytes_per_user, Some(ByteLen::new(8 << 30)));
    assert_eq!(rule.bounds.leases_per_user, Some(128));
    assert_eq!(rule.bounds.longest_lease, Some(Duration::from_secs(3600)));
}

#[test]
fn an_account_that_does_not_exist_is_named_with_the_command_that_shows_it() {
    assert_says(
        &rule("users = [0, \"no-such-user\"]"),
        &["peermemd.toml:4:13:", "no user is named \"no-such-user\"", "`getent passwd no-such-user`", "^^^^"],
    );
    assert_says(
        &rule("groups = [\"no-such-group\"]"),
        &["peermemd.toml:4:11:", "no group is named \"no-such-group\"", "`getent group no-such-group`"],
    );
    assert_says(&rule("users = [4294967296]"), &["peermemd.toml:4:9:", "a name, or an id without quotes"]);
    assert_says(&rule("users = [-1]"), &["peermemd.toml:4:9:", "a name, or an id without quotes"]);
}

#[test]
fn a_rule_for_nobody_is_shown() {
    assert_says(&rule(""), &["peermemd.toml:2:8:", "for nobody", "users = [\"*\"]"]);
    assert_says(&rule("users = []"), &["peermemd.toml:2:8:", "for nobody"]);
}

#[test]
fn a_range_that_is_none_is_shown() {
    for range in ["9", "9-", "9-8", "a-b", "0-4294967296", "1-2-3"] {
        assert_says(
            &rule(&format!("uid_ranges = [\"{range}\"]")),
            &["peermemd.toml:4:15:", "FIRST-LAST, such as 100000-165535"],
        );
    }
}

#[test]
fn a_pattern_that_nothing_fits_is_shown() {
    let with = |more: &str| rule(&format!("users = [0]\n{more}"));
    assert_says(&with("regions = []"), &["peermemd.toml:5:11:", "no such key for all"]);
    assert_says(&with("regions = [\"a b*\"]"), &["peermemd.toml:5:12:", "the wildcards * and ?"]);
    assert_says(&with("regions = [\"-a\"]"), &["peermemd.toml:5:12:", "can't name a region"]);
    assert_says(&with("initiators = [\"mlx5_*\"]"), &["peermemd.toml:5:15:", "rdma:, pci: or vfio:"]);
    assert_says(&with("initiators = [\"mlx5_0\"]"), &["peermemd.toml:5:15:", "expected rdma:NAME"]);
    assert_says(&with("initiators = [\"pci:3b:00.0\"]"), &["peermemd.toml:5:15:", "such as 0000:3b:00.0"]);
    let text = with("initiators = [\"pci:0000:3B:*\", \"vfio:*\", \"*\", \"e*\", \"rdma:?\"]");
    let settings = parse(Path::new("x"), &text, Path::new("/sys")).unwrap();
    assert!(settings.policy.rules()[1].initiators.matches("pci:0000:3b:00.0"));
}

#[test]
fn a_rule_without_a_name_of_its_own_is_shown() {
    let named = |name: &str| format!("[[policy.rule]]\nname = \"{name}\"\nusers = [0]\nallow = []\n");
    assert_says(&named("a b"), &["peermemd.toml:2:8:", "can't name a rule"]);
    assert_says(&named("root"), &["peermemd.toml:2:8:", "`root` is built in"]);
    assert_says(&named("a").repeat(2), &["peermemd.toml:6:8:", "a rule named a exists already"]);
}

#[test]
fn what_a_rule_allows_must_be_said() {
    let allowing = |allow: &str| format!("[[policy.rule]]\nname = \"a\"\nusers = [0]\n{allow}\n");
    assert_says(&allowing(""), &["peermemd.toml:1:1:", "missing field `allow`"]);
    assert_says(
        &allowing("allow = [\"map\", \"mapp\"]"),
        &["peermemd.toml:4:17:", "unknown variant `mapp`", "`map`, `register`"],
    );
}

#[test]
fn bounds_of_nothing_and_beyond_every_clock_are_shown() {
    let with = |more: &str| rule(&format!("users = [0]\n{more}"));
    assert_says(&with("bytes_per_user = \"0\""), &["peermemd.toml:5:18:", "such as 8GiB"]);
    assert_says(&with("bytes_per_user = \"8GB\""), &["peermemd.toml:5:18:", "GiB"]);
    assert_says(&with("leases_per_user = 0"), &["peermemd.toml:5:19:", "at least 1"]);
    assert_says(&with("longest_lease_secs = 0"), &["peermemd.toml:5:22:", "at least 1"]);
    assert_says(&with("longest_lease_secs = 9223372036854775807"), &["peermemd.toml:5:22:", "ten years"]);
}

#[test]
fn metrics_are_at_an_address_or_at_a_path() {
    let listen = |text: &str| format!("[metrics]\nlisten = \"{text}\"\n");
    let settings = parse(Path::new("x"), &listen("unix:/run/m.sock"), Path::new("/sys")).unwrap();
    assert_eq!(settings.metrics, Some(MetricsAddress::Unix("/run/m.sock".into())));
    for wrong in ["nowhere", "127.0.0.1", "unix:", "unix:m.sock", "unix:/", "/run/m.sock"] {
        assert_says(&listen(wrong), &["peermemd.toml:2:10", wrong, "127.0.0.1:9489", "unix:/run"]);
    }
}

#[test]
fn a_namespace_that_no_journal_can_have_is_refused() {
    assert_says(
        "[log]\naudit_namespace = \"a/b\"\n",
        &["peermemd.toml:2:19:", "\"a/b\" can't name a journal namespace", "such as peermem"],
    );
}

#[test]
fn types_are_called_as_the_file_has_them() {
    for (text, expected) in [
        ("[server]\nstall_secs = \"3\"\n", "string \"3\", expected a whole number, 0 or more"),
        ("[server]\nstall_secs = -3\n", "`-3`, expected a whole number, 0 or more"),
        ("[server]\nsocket = 5\n", "`5`, expected a path in quotes"),
        ("[limits]\nbytes_per_user = 5\n", "`5`, expected text in quotes"),
        ("[p2pmem]\nenabled = 1\n", "`1`, expected true or false"),
        ("[registered]\nexporters = \"x\"\n", "string \"x\", expected a list"),
        ("[policy.rule]\nname = \"a\"\n", "a table, expected a list, or [[ ]] around the name"),
    ] {
        assert_says(text, &[expected]);
    }
}

#[test]
fn a_path_that_depends_on_the_folder_is_refused() {
    for key in ["socket", "journal"] {
        let text = format!("[server]\n{key} = \"here\"\n");
        assert_says(&text, &["peermemd.toml:2:", "here depends on where", "expected an absolute path"]);
    }
}
