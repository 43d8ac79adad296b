//! Programs that nobody here wrote, beside the daemon and on its metrics: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use peermem::Lease;
use peermem_proto::{ByteLen, Initiator, Refusal};
use peermem_scenarios::{
    command::{described, json, peermemctl, run, succeed},
    daemon::{Daemon, METRICS, UNIT, refusal},
    drive::Drive,
    leased::{request, rxe},
    wait::{until, until_seen},
};
use serde_json::Value;

const RULES: &str = include_str!("../../../deploy/prometheus/peermem.rules.yml");
const MIB: ByteLen = ByteLen::new(1 << 20);

/// A program that would run on, until dropped.
struct Background(Child);

impl Background {
    fn start(command: &mut Command) -> Self {
        Self(command.env_remove("LD_PRELOAD").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether somebody listens at that port of any address, by the kernel's own tables.
fn listens(port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap());
    tables.iter().flat_map(|table| table.lines()).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == "0A"
    })
}

/// A lease for programs that map the allocator by its path, held for them by `peermemctl map`: exactly as many bytes as
/// they map, once.
fn set_aside(drive: &Drive, size: ByteLen) -> Background {
    let line = format!("map {} --size {size} --initiator rdma:rxe0", drive.region());
    let mut held = Background::start(peermemctl(&line).stdin(Stdio::piped()));
    // It says so once the memory is there.
    let mut granted = String::new();
    BufReader::new(held.0.stdout.as_mut().unwrap()).read_line(&mut granted).unwrap();
    json(&granted);
    held
}

/// Maps two buffers of a message each.
fn perftest(drive: &Drive) -> Command {
    let mut command = Command::new("ib_write_bw");
    command.args(["--ib-dev=rxe0", "--odp", "--size=65536", "--iters=20", "--CPU-freq"]);
    command.arg(format!("--mmap={}", drive.allocator().display())).env_remove("LD_PRELOAD");
    command
}

#[test]
fn perftest_writes_from_one_cmb_to_another_while_leases_are_held() {
    const PORT: u16 = 18515;
    let daemon = Daemon::start();
    let drives = ["a", "b"].map(Drive::named);
    let client = daemon.client();
    let leases = drives.each_ref().map(|drive| client.map(&request(drive.region(), MIB, &[rxe()])).unwrap());
    let mappings = leases.each_ref().map(|lease| lease.mapping().unwrap());
    mappings.iter().for_each(|mapping| mapping.copy_from_slice(0, &[0xa5; 1 << 20]).unwrap());
    let _set_aside = drives.each_ref().map(|drive| set_aside(drive, ByteLen::new(2 * 65536)));

    let mut server = Background::start(perftest(&drives[1]).arg(format!("--port={PORT}")));
    until("ib_write_bw listens", || listens(PORT).then_some(()));
    let report = succeed(perftest(&drives[0]).arg(format!("--port={PORT}")).arg("10.0.2.15"));
    assert!(report.lines().any(|line| line.split_whitespace().next() == Some("65536")), "{report}");
    assert!(server.0.wait().unwrap().success());

    for mapping in mappings {
        let mut found = vec![0; mapping.len()];
        mapping.copy_to_slice(0, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == 0xa5), "perftest wrote into a lease");
    }
}

#[test]
fn fio_reads_one_drive_into_the_cmb_of_another_and_verifies_it() {
    let daemon = Daemon::start();
    let [a, b] = ["a", "b"].map(Drive::named);
    let fio = |more: &[String]| {
        let mut command = Command::new("fio");
        command.args(["--name=peer", "--direct=1", "--size=4m", "--bs=64k", "--output-format=json"]);
        command.args(["--ioengine=libaio", "--iodepth=4", "--verify=crc32c", "--verify_fatal=1"]);
        command.arg(format!("--filename={}", a.disk.display())).args(more).env_remove("LD_PRELOAD");
        let report = json(&succeed(&mut command));
        assert_eq!(report["jobs"][0]["error"], 0, "{report}");
        report
    };
    fio(&["--rw=write".into(), "--do_verify=0".into()]);
    // Four blocks, and two pages to align them in.
    let set_aside = set_aside(&b, ByteLen::new(4 * 65536 + 2 * 4096));
    let iomem = format!("--iomem=mmapshared:{}", b.allocator().display());
    let report = fio(&["--rw=read".into(), iomem]);
    assert_eq!(report["jobs"][0]["read"]["io_bytes"], 4 << 20);
    drop(set_aside);
    daemon.waits_for_all_of(&b);
}

/// Two leases for two devices each, and one refusal.
fn traffic(daemon: &Daemon) -> [Lease; 2] {
    let [a, b, c] = ["a", "b", "c"].map(Drive::named);
    let client = daemon.client();
    let ask = |initiators: &[Initiator]| client.map(&request(b.region(), MIB, initiators));
    let leases = [(); 2].map(|()| ask(&[a.initiator(), rxe()]).unwrap());
    assert!(matches!(refusal(ask(&[c.initiator()])), Refusal::NoRoute { .. }));
    leases
}

#[test]
fn promtool_finds_nothing_to_complain_about_and_the_values_are_right() {
    let daemon = Daemon::start();
    let _leases = traffic(&daemon);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    succeed(Command::new("curl").args(["--silent", "--fail", "--output"]).arg(&file).arg(METRICS));
    let complaints = run(&format!("promtool check metrics < {} 2>&1", file.display()));
    assert_eq!(complaints, "");
    let metrics = fs::read_to_string(file).unwrap();
    let region = Drive::named("b").region();
    for line in [
        "peermem_leases{method=\"on_demand\",provider=\"p2pmem\",state=\"active\"} 2",
        "peermem_user_leases{uid=\"0\"} 2",
        "peermem_rule_leases{rule=\"root\"} 2",
        "peermem_events_total{kind=\"lease_granted\"} 2",
        "peermem_journal_failures_total 0",
        "peermem_regions{provider=\"p2pmem\"} 3",
        "peermem_mappings_total{method=\"on_demand\",route=\"bus_address\"} 2",
        "peermem_mappings_total{method=\"on_demand\",route=\"software\"} 2",
        "peermem_refusals_total{code=\"NoRoute\"} 1",
        "peermem_routes{route=\"software\"} 3",
        "peermem_request_duration_seconds_count{method=\"Map\"} 3",
        &format!("peermem_region_leased_bytes{{provider=\"p2pmem\",region=\"{region}\"}} 2097152"),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} isn't in\n{metrics}");
    }
}

#[test]
fn the_alerts_fire_when_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let tests = folder.path().join("tests/peermem.test.yml");
    fs::create_dir(tests.parent().unwrap()).unwrap();
    fs::write(folder.path().join("peermem.rules.yml"), RULES).unwrap();
    fs::write(&tests, include_str!("../../../deploy/prometheus/tests/peermem.test.yml")).unwrap();
    succeed(
        Command::new("promtool")
            .args(["check", "rules", "--lint-fatal"])
            .arg(folder.path().join("peermem.rules.yml")),
    );
    succeed(Command::new("promtool").args(["test", "rules"]).arg(&tests));
}

#[test]
fn a_prometheus_server_scrapes_what_the_daemon_does() {
    const PORT: u16 = 9091;
    let daemon = Daemon::start();
    let _leases = traffic(&daemon);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    // The shipped config, only more often.
    let shipped = include_str!("../../../deploy/prometheus/prometheus.yml");
    assert!(
        shipped.contains(METRICS.trim_start_matches("http://").trim_end_matches("/metrics")),
        "{METRICS}"
    );
    assert!(shipped.contains("scrape_interval: 15s"));
    fs::write(folder.path().join("peermem.rules.yml"), RULES).unwrap();
    fs::write(&config, shipped.replace("scrape_interval: 15s", "scrape_interval: 1s")).unwrap();
    let _server = Background::start(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{PORT}")),
    );
    until("Prometheus listens", || listens(PORT).then_some(()));
    let value = |query: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--get", "--data-urlencode", &format!("query={query}")]);
        let output = curl.arg(format!("http://127.0.0.1:{PORT}/api/v1/query")).output().unwrap();
        // 503 until it has read its own storage.
        if output.status.code() == Some(22) {
            return None;
        }
        assert!(output.status.success(), "{}", described(&output));
        let answer: Value = json(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"]["result"].get(0).map(|sample| sample["value"][1].as_str().unwrap().to_owned())
    };
    for (query, expected) in [
        ("peermem_leases{method=\"on_demand\",state=\"active\"}", "2"),
        ("up", "1"),
        ("sum(peermem_region_leased_bytes)", "2097152"),
        ("peermem_refusals_total{code=\"NoRoute\"}", "1"),
        ("sum(peermem_rule_leased_bytes{rule=\"root\"})", "2097152"),
        ("sum(peermem_region_missing_bytes)", "0"),
    ] {
        // A scrape may come too late, and leaves nothing to be seen until the next one.
        until_seen(query, || value(query), |value| value.as_deref() == Some(expected));
    }
}

#[test]
fn systemd_calls_the_unit_well_protected() {
    let _daemon = Daemon::start();
    run("systemd-analyze verify --man=no peermemd.socket peermemd.service peermem-selftest.service 2>&1");
    // The exposure level times 10, of 100.
    run(&format!("systemd-analyze security --no-pager --threshold=20 {UNIT}"));
}
