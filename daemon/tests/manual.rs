//! The manual pages say what the program does.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// The keys and sections of the installed config, which shows every one, those that are comments included.
fn config_words() -> Vec<&'static str> {
    let config = include_str!("../../systemd/peermemd.toml");
    let mut words = Vec::new();
    for line in config.lines().map(|line| line.trim_start_matches("# ")) {
        if line.starts_with('[') && line.ends_with(']') {
            words.push(line);
        } else if let Some((key, _)) = line.split_once(" = ") {
            words.push(key);
        }
    }
    words
}

#[test]
fn every_key_of_the_config_is_in_its_page() {
    let page = include_str!("../../docs/man/peermemd.toml.5");
    let words = config_words();
    assert!(words.contains(&"[server]") && words.contains(&"exporters"), "{words:?}");
    for word in words {
        let entry =
            if word.starts_with('[') { format!(".Ss {word}\n") } else { format!(".It Sy {word} No = ") };
        assert!(page.contains(&entry), "peermemd.toml.5 has no {entry:?}");
    }
}

#[test]
fn every_option_is_in_the_daemons_page() {
    let page = include_str!("../../docs/man/peermemd.8");
    let help = Command::new(env!("CARGO_BIN_EXE_peermemd")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words =
        help.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-'));
    let options: Vec<_> = words.filter_map(|word| word.strip_prefix("--")).collect();
    assert!(options.contains(&"emulate"), "{help}");
    for option in options {
        assert!(page.contains(&format!("Fl -{option}")), "peermemd.8 has no --{option}");
    }
}
