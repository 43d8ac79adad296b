//! Checks and tests that need no guest.

use std::process::Command;

use anyhow::Result;

use super::libtest;
use super::report::{Counts, Report};
use crate::command::{run_captured, run_logged};
use crate::progress::Step;
use crate::{host, package, project};

const CARGO_DENY: host::Tool = host::Tool { name: "cargo-deny", version: "0.20.2" };

/// Runs the checks and tests whose names contain `filter`.
///
/// # Errors
/// When the machine can't be set up or cargo can't start.
pub(super) fn run(filter: Option<&str>, report: &mut Report) -> Result<()> {
    host::Release::detect()?;
    host::install_missing()?;
    let wanted = |name: &str| filter.is_none_or(|text| name.contains(text));
    let workspace = ["--workspace", "--all-targets"];
    if wanted("fmt") {
        report.add_check("fmt", check("fmt", project::cargo().args(["fmt", "--all", "--check"])));
    }
    if wanted("clippy") {
        let mut clippy = project::cargo();
        clippy.arg("clippy").args(workspace).args(["--", "-D", "warnings"]);
        report.add_check("clippy", check("clippy", &mut clippy));
    }
    if wanted("doc") {
        let mut doc = project::cargo();
        doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        report.add_check("doc", check("doc", &mut doc));
    }
    if wanted("deny") {
        report.add_check("deny", deny());
    }
    if wanted("package") {
        report.add_check("package", package::check());
    }
    if wanted("image") {
        report.add_check("image", package::check_image());
    }
    if wanted("manifests") {
        report.add_check("manifests", package::manifests::check());
    }
    tests(filter, report)
}

fn check(name: &str, command: &mut Command) -> Result<()> {
    let step = Step::new(format!("Check: {name}"));
    run_logged(command, &step, &project::log(name))?;
    step.done();
    Ok(())
}

/// Licences, sources and banned crates. Advisories need a database from outside, so they aren't
/// part of what every change is held to.
fn deny() -> Result<()> {
    let mut deny = Command::new(CARGO_DENY.find()?);
    deny.current_dir(project::root()).args(["check", "bans", "licenses", "sources"]);
    check("deny", &mut deny)
}

/// Runs the workspace's tests but the guest's.
fn tests(filter: Option<&str>, report: &mut Report) -> Result<()> {
    let step = Step::new("Tests on this machine");
    let mut test = project::cargo();
    test.args(["test", "--workspace", "--exclude", "peermem-scenarios", "--no-fail-fast", "--"]).args(filter);
    let (output, succeeded) = run_captured(&mut test, &step, &project::log("host-tests"))?;
    step.done();

    let programs = programs(&output);
    let mut failed = false;
    for program in &programs {
        // cargo's status is of all programs together.
        let counts = libtest::counts(&program.output, true);
        failed |= !counts.failed.is_empty();
        if counts != Counts::default() {
            report.add(&program.name, counts, &program.output);
        }
    }
    if !succeeded && !failed {
        let counts = Counts { passed: 0, failed: vec!["cargo test failed".to_owned()] };
        report.add("cargo test", counts, &output);
    }
    Ok(())
}

/// One test program's part of what `cargo test` printed.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    name: String,
    output: String,
}

/// Splits the output where cargo says which program it runs next.
fn programs(output: &str) -> Vec<Program> {
    let mut programs: Vec<Program> = Vec::new();
    for line in output.lines() {
        if let Some(name) = program_name(line) {
            programs.push(Program { name, output: String::new() });
        } else if let Some(program) = programs.last_mut() {
            program.output.push_str(line);
            program.output.push('\n');
        }
    }
    programs
}

/// `     Running tests/a.rs (target/debug/deps/a-0123456789abcdef)` or `   Doc-tests name`
fn program_name(line: &str) -> Option<String> {
    if let Some(name) = line.strip_prefix("   Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (_, file) = line.strip_prefix("     Running ")?.strip_suffix(')')?.rsplit_once('/')?;
    file.rsplit_once('-').map(|(name, _hash)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_output_is_split_by_program() {
        let output = "   Compiling x\n     Running unittests src/lib.rs (target/debug/deps/x-1)\n\
                      running 1 test\ntest a ... ok\n   Doc-tests x\nrunning 0 tests\n";
        let programs = programs(output);
        assert_eq!(programs.len(), 2);
        assert_eq!(programs[0].name, "x");
        assert_eq!(programs[0].output, "running 1 test\ntest a ... ok\n");
        assert_eq!(programs[1].name, "x (documentation)");
    }
}
