//! Tests that need another process: this test program again, in the role of a test marked `#[ignore]`.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const PLACE: &str = "PEERMEM_TEST_PLACE";

/// A process that runs the line of shell `before`, and then as that same process the test `name`, at `place`.
pub fn role(name: &str, place: &Path, before: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"{before}; exec "$0" "$@""#)]).arg(env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).env(PLACE, place);
    command
}

/// The place of the role that this process plays.
pub fn place_of_role() -> PathBuf {
    env::var_os(PLACE).expect("another test starts this one").into()
}

/// Runs it to its end, which must come without a panic. A name that no test has is one, too.
pub fn play(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
