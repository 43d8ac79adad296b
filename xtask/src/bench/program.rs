//! Running a benchmark's program, and reading what it prints.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use peermem_bench::Row;

use super::catalogue::{Benchmark, Place};
use crate::command::run_logged;
use crate::progress::Step;
use crate::project::{self, CargoProfile};
use crate::vm::{Output, Prepared};

/// How long a benchmark in a guest may take, under emulation.
const GUEST_TIMEOUT: Duration = Duration::from_secs(2400);

/// Builds what the benchmark needs, runs it, and returns its rows.
///
/// # Errors
/// When something can't be built or booted, and when the program fails or prints no rows.
pub(super) fn rows_of(benchmark: &Benchmark) -> Result<Vec<Row>> {
    let output = match benchmark.place {
        Place::Host(subcommand) => on_host(benchmark.name, subcommand)?,
        Place::Guest { profile, commands } => in_guest(benchmark.name, profile, commands)?,
    };
    read(&output)
}

fn read(output: &str) -> Result<Vec<Row>> {
    let row =
        |line: &str| serde_json::from_str(line).with_context(|| format!("a row was expected, not {line:?}"));
    let rows: Vec<Row> = output.lines().filter(|line| !line.is_empty()).map(row).collect::<Result<_>>()?;
    if rows.is_empty() {
        bail!("it printed no rows");
    }
    Ok(rows)
}

fn on_host(name: &str, subcommand: &str) -> Result<String> {
    let step = Step::new("Daemon and benchmarks, release profile");
    let mut build = project::cargo();
    build.args(["build", "--release", "--package", "peermemd", "--package", "peermem-bench"]);
    run_logged(&mut build, &step, &project::log("bench-build"))?;
    step.done();
    let step = Step::new(format!("Benchmark: {name}"));
    let output = Command::new(project::target().join("release/peermem-bench"))
        .arg(subcommand)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start peermem-bench")?;
    if !output.status.success() {
        bail!("`peermem-bench {subcommand}` failed: {}", output.status);
    }
    step.done();
    String::from_utf8(output.stdout).context("it printed bytes that aren't UTF-8")
}

fn in_guest(name: &str, profile: &str, commands: &str) -> Result<String> {
    let prepared = Prepared::new(profile, CargoProfile::Release)?;
    let mut machine = prepared.boot(None)?;
    let step = Step::new(format!("Benchmark in the guest: {name}"));
    let (mut printed, mut said) = (Vec::new(), Vec::new());
    let result = machine.run(&["/bin/bash", "-ec", commands], GUEST_TIMEOUT, |stream, bytes| match stream {
        Output::Stdout => printed.extend_from_slice(bytes),
        Output::Stderr => {
            step.note(&String::from_utf8_lossy(bytes));
            said.extend_from_slice(bytes);
        }
    });
    match result {
        Ok(0) => step.done(),
        Ok(status) => bail!(
            "its commands failed in the guest with status {status}; they printed\n{}{}",
            String::from_utf8_lossy(&printed),
            String::from_utf8_lossy(&said)
        ),
        Err(failure) => return Err(failure.into()),
    }
    String::from_utf8(printed).context("it printed bytes that aren't UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_row_is_shown() {
        assert_eq!(
            read("{\"what\":\"x\",\"ours\":1,\"unit\":\"s\"}\n\n").unwrap(),
            [Row::new("x", 1.0, "s")]
        );
        assert!(read("").is_err());
        let error = read("oh\n").unwrap_err();
        assert!(error.to_string().contains("\"oh\""), "{error}");
    }
}
