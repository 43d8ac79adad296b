//! What is deployed fits the daemon.
#![allow(clippy::unwrap_used)]

use std::path::Path;

/// The lines below `key: |`, as far as they are indented further.
fn block(yaml: &str, key: &str) -> String {
    let opening = format!("{key}: |");
    let mut lines = yaml.lines().skip_while(|line| line.trim() != opening);
    let indent = lines.next().unwrap().find(|c| c != ' ').unwrap();
    let inside = |line: &&str| line.is_empty() || line.find(|c| c != ' ').is_some_and(|found| found > indent);
    lines.take_while(inside).map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn the_config_for_kubernetes_is_good() {
    let config = block(include_str!("../../deploy/kubernetes/peermemd.yaml"), "peermemd.toml");
    let settings = peermemd::config::parse(Path::new("peermemd.toml"), &config, Path::new("/sys")).unwrap();
    assert_eq!(settings.metrics, Some("0.0.0.0:9489".parse().unwrap()), "where the probe looks");
}
