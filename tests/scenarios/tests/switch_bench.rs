//! `peermemctl bench` between leases: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::fs;

use peermem_scenarios::{
    command::{json, peermemctl, succeed},
    daemon::Daemon,
    doctor::Diagnosis,
    drive::Drive,
};
use serde_json::Value;

/// What a benchmark of `operation` between two drives' buffers says.
fn bench(operation: &str, more: &str) -> Value {
    let [from, to] = ["a", "b"].map(|drive| Drive::named(drive).region());
    let line = format!("bench {operation} --from {from} --to {to} {more}");
    json(&succeed(&mut peermemctl(&line)))
}

fn rows(report: &Value) -> &Vec<Value> {
    report["measurements"].as_array().unwrap()
}

#[test]
fn every_operation_is_measured_and_verified_sleeping_and_polling() {
    let _daemon = Daemon::start();
    for operation in ["write", "read", "send"] {
        for waiting in ["", "--poll"] {
            let report = bench(operation, &format!("--sizes 4KiB..16KiB --depth 8 {waiting}"));
            assert_eq!(report["operation"], operation);
            let sizes: Vec<_> = rows(&report).iter().map(|row| row["bytes"].as_u64().unwrap()).collect();
            assert_eq!(sizes, [4096, 8192, 16384]);
            for row in rows(&report) {
                assert_eq!((&row["verified"], &row["way"]), (&true.into(), &"direct".into()), "{row}");
                assert_eq!(row["depth"], 8, "{row}");
                assert!(row["messages"].as_u64().unwrap() > 0, "{row}");
                let latency = &row["latency_ns"];
                let [p50, p99] = ["p50", "p99"].map(|name| latency[name].as_u64().unwrap());
                assert!(0 < p50 && p50 <= p99, "{row}");
            }
        }
    }
}

#[test]
fn both_ways_of_a_recommendation_have_as_many_messages_under_way() {
    let _daemon = Daemon::start();
    // Host memory of 16 MiB has room for 4 of these; of 4 receives, one is for news of receives.
    for (operation, depth) in [("write", 4), ("read", 4), ("send", 3)] {
        let report = bench(operation, "--sizes 4MiB --depth 8 --recommend");
        let depths: Vec<_> = rows(&report).iter().map(|row| row["depth"].as_u64().unwrap()).collect();
        assert_eq!(depths, [depth, depth], "{report}");
        let advice = &report["recommended"][0];
        assert_eq!(advice["bytes"], 4 << 20);
        assert!(advice["ratio"].as_f64().unwrap() >= 1.0, "{report}");
    }
}

#[test]
fn every_operation_bounces_through_host_memory_and_is_verified() {
    let _daemon = Daemon::start();
    for operation in ["write", "read", "send"] {
        let report = bench(operation, "--sizes 4KiB..8KiB --depth 8 --bounce");
        let sizes: Vec<_> = rows(&report).iter().map(|row| row["bytes"].as_u64().unwrap()).collect();
        assert_eq!(sizes, [4096, 8192], "{report}");
        for row in rows(&report) {
            assert_eq!((&row["verified"], &row["way"]), (&true.into(), &"bounced".into()), "{row}");
            assert_eq!(row["depth"], 8, "{row}");
        }
    }
}

#[test]
fn doctor_quotes_what_was_measured_of_a_pair_with_its_date() {
    let _daemon = Daemon::start();
    let report = bench("write", "--sizes 4KiB..8KiB --depth 8 --recommend --save");
    let saved = report["saved"].as_str().unwrap();
    assert!(saved.starts_with("/var/lib/peermem/"), "{saved}");
    let kept = json(&fs::read_to_string(saved).unwrap());
    assert_eq!(kept["sizes"], report["recommended"]);
    let [from, to] = ["a", "b"].map(|drive| Drive::named(drive).region().to_string());
    let words = [&format!("{from}->{to}"), kept["date"].as_str().unwrap(), "is faster", "Linux"];
    let diagnosis = Diagnosis::with("");
    let [(verdict, text)] = &diagnosis.of("bench")[..] else { panic!("{diagnosis:?}") };
    assert!(verdict == "pass" || verdict == "warn", "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} isn't in {text}");
    }
    fs::remove_file(saved).unwrap();
    assert!(Diagnosis::with("").of("bench").is_empty());
}
