//! Programs that nobody here wrote, and `peermemctl`.

use std::process::{Command, Output};

use serde_json::Value;

use crate::daemon::SOCKET;

/// Runs a line of shell and returns what it printed. It must succeed.
pub fn run(line: &str) -> String {
    succeed(Command::new("sh").args(["-c", line]))
}

/// Runs a line of shell that puts something back, and says so where that fails: what is dropped must not panic.
pub fn put_back(line: &str) {
    match Command::new("sh").args(["-c", line]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!("`{line}` ended with {}", described(&output)),
        Err(error) => eprintln!("`{line}`: {error}"),
    }
}

/// Runs a program and returns what it printed. It must succeed.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", described(&output));
    text(&output.stdout)
}

/// Runs a program that must end with `code`, and returns all that it printed.
pub fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}", described(&output));
    text(&[output.stdout, output.stderr].concat())
}

/// systemd's client of any varlink service, calling a method of the daemon's.
pub fn varlink_call(method: &str, parameters: &str) -> Command {
    let mut command = Command::new("varlinkctl");
    command.args(["call", "--json=short", SOCKET, method, parameters]);
    command
}

/// `peermemctl --json` with the words of `line` as its arguments.
pub fn peermemctl(line: &str) -> Command {
    let mut command = Command::new("peermemctl");
    command.arg("--json").args(line.split_whitespace());
    command
}

/// One JSON value. `text` must be one.
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// How a program ended and what it said, for a panic's message.
pub fn described(output: &Output) -> String {
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
