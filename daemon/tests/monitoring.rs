//! The alert rules and the dashboard ask for what the daemon says, by its names and its labels.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use peermemd::metrics::NAMES;
use serde_json::{Value, json};

mod support;

/// What Prometheus adds to every sample.
const OF_THE_TARGET: [&str; 2] = ["instance", "job"];
/// Of the process collector, and Prometheus' own.
const WITHOUT_LABELS: [&str; 4] =
    ["process_open_fds", "process_resident_memory_bytes", "process_start_time_seconds", "up"];

/// A metric that an expression names, and the labels that it asks of it.
type Asked<'a> = (&'a str, BTreeSet<&'a str>);

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The metrics of an expression. Labels of a grouping count for every metric of it.
fn asked(expression: &str) -> Vec<Asked<'_>> {
    let groupings = expression.split(" by (").skip(1).map(|rest| rest.split_once(')').unwrap().0);
    let grouped: BTreeSet<_> = groupings.flat_map(|labels| labels.split(',')).map(str::trim).collect();
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(is_word) {
        let end = rest[at..].find(|c| !is_word(c)).map_or(rest.len(), |length| at + length);
        let (word, after) = (&rest[at..end], &rest[end..]);
        rest = after;
        let mut labels = grouped.clone();
        if let Some(selector) = after.strip_prefix('{') {
            let (selector, after) = selector.split_once('}').unwrap();
            labels.extend(selector.split(',').map(|pair| pair.split(['=', '!']).next().unwrap()));
            rest = after;
        }
        if word.starts_with("peermem_") || WITHOUT_LABELS.contains(&word) {
            found.push((word, labels));
        }
    }
    found
}

/// Asserts that the daemon has the metric, and every label that is asked of it.
#[track_caller]
fn assert_known((name, labels): Asked<'_>, expression: &str) {
    let family = name.trim_end_matches("_bucket").trim_end_matches("_count");
    let known = NAMES.iter().find(|(known, _)| *known == name || *known == family);
    let own: &[&str] = match known {
        Some((_, labels)) => labels,
        None if WITHOUT_LABELS.contains(&name) => &[],
        None => panic!("the daemon has no metric {name}: {expression}"),
    };
    for label in labels {
        let is_bucket = label == "le" && name.ends_with("_bucket");
        let known = own.contains(&label) || OF_THE_TARGET.contains(&label) || is_bucket;
        assert!(known, "{name} has no label {label}: {expression}");
    }
}

#[test]
fn a_running_daemon_says_nothing_under_other_names() {
    let daemon = support::Daemon::start();
    let mut client = daemon.connect();
    let _lease = client.map(8192);
    client.call("Nope", json!({}));
    let known: BTreeMap<_, BTreeSet<_>> =
        NAMES.iter().map(|(name, labels)| (*name, labels.iter().copied().collect())).collect();
    let text = daemon.scrape("GET /metrics HTTP/1.1\r\n\r\n");
    let mut seen = 0;
    for line in text.lines().filter(|line| line.starts_with("peermem_")) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        let (name, mut labels) = asked(sample).remove(0);
        labels.remove("le");
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let expected = known.get(name).or_else(|| known.get(family?));
        assert_eq!(expected, Some(&labels), "{line}");
        seen += 1;
    }
    assert!(seen > 30, "{text}");
}

#[test]
fn every_expression_of_the_dashboard_is_answered() {
    let dashboard: Value = serde_json::from_str(include_str!("../../deploy/grafana/peermem.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut shown = BTreeSet::new();
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let expression = target["expr"].as_str().unwrap();
        let metrics = asked(expression);
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            shown.insert(metric.0.trim_end_matches("_bucket").trim_end_matches("_count").to_owned());
            assert_known(metric, expression);
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    // Sums of what is shown by its parts.
    let left_out = ["peermem_connections_total", "peermem_rule_leases"];
    for (name, _) in NAMES.iter().filter(|(name, _)| !left_out.contains(name)) {
        assert!(shown.contains(*name), "the dashboard doesn't show {name}");
    }
}

#[test]
fn every_alert_asks_for_what_the_daemon_says() {
    let rules = include_str!("../../deploy/prometheus/peermem.rules.yml");
    let tests = include_str!("../../deploy/prometheus/tests/peermem.test.yml");
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (_, expression) = rest.split_once("expr:").unwrap();
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|key| expression.find(key)).min();
        let expression = &expression[..end.unwrap()];
        let metrics = asked(expression);
        assert!(!metrics.is_empty(), "{name}: {expression}");
        metrics.into_iter().for_each(|metric| assert_known(metric, expression));
        assert!(tests.contains(name), "no test has {name} fire");
        alerts += 1;
    }
    assert!(alerts >= 10, "{alerts}");
}
