//! Tests that run in guest machines: the scenarios, and the test GPU's own test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::libtest;
use super::report::{Counts, Report};
use super::scenarios::{self, Scenario};
use crate::progress::{Step, say};
use crate::project::{self, CargoProfile};
use crate::vm::{DEFAULT_PROFILE, Failure, Machine, Prepared};

/// How long one test program may take.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(600);

/// Where the guest has the scenarios.
const FOLDER: &str = "usr/libexec/peermem-tests";

/// Runs a program on a machine without the daemon, which any client would start by its socket. The library gives soft-RoCE what
/// hardware has: see `tests/testgpu/preload`.
const ALONE: &str = "systemctl stop peermemd.socket peermemd.service; \
                     LD_PRELOAD=/usr/lib/peermem-tests/librxe_dmabuf.so exec \"$0\" \"$@\"";

/// How a program's output is read.
#[derive(Debug, Clone, Copy)]
enum Format {
    Libtest,
    /// `ok NAME` and `not ok NAME` lines.
    Checks,
}

struct Program {
    name: String,
    arguments: Vec<String>,
    format: Format,
}

/// Runs the tests whose names, or files' names, contain `filter`, with one boot for each profile.
///
/// # Errors
/// When the scenarios don't build or a guest can't be set up. A guest that fails is counted.
pub(super) fn run(filter: Option<&str>, report: &mut Report) -> Result<()> {
    let mut profiles: BTreeMap<String, Vec<Scenario>> = BTreeMap::new();
    for scenario in scenarios::build(filter)? {
        profiles.entry(scenario.profile.clone()).or_default().push(scenario);
    }
    let selftest = filter.is_none_or(|text| "testgpu-selftest".contains(text));
    if selftest {
        profiles.entry(DEFAULT_PROFILE.to_owned()).or_default();
    }
    for (profile, scenarios) in profiles {
        let prepared = Prepared::new(&profile, CargoProfile::Guest)?;
        let mut programs = Vec::new();
        for scenario in scenarios {
            let to = format!("{FOLDER}/{}", scenario.name);
            prepared.tree.install_file(&scenario.executable, &to, 0o755)?;
            programs.push(Program::scenario(&scenario, filter));
        }
        if selftest && profile == DEFAULT_PROFILE {
            programs.push(Program {
                name: "testgpu-selftest".into(),
                arguments: Vec::new(),
                format: Format::Checks,
            });
        }
        run_all(&prepared, &programs, report)?;
    }
    Ok(())
}

impl Program {
    fn scenario(scenario: &Scenario, filter: Option<&str>) -> Self {
        let filter = filter.filter(|text| !scenario.name.contains(text));
        // One at a time: they share the drives, the link and the daemon.
        let arguments = ["--test-threads=1"].into_iter().chain(filter).map(str::to_owned).collect();
        Program { name: scenario.name.clone(), arguments, format: Format::Libtest }
    }
}

/// How a program left the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// Fit for the next one.
    Usable,
    /// Not fit for anything.
    Lost,
    /// QEMU itself has crashed, which says nothing of the program.
    Crashed,
}

/// How often a program is run in all when QEMU crashes under it. Each time is told.
const ATTEMPTS: u32 = 2;

/// Runs the programs in one guest; in a new one after a program that took the guest with it.
fn run_all(prepared: &Prepared, programs: &[Program], report: &mut Report) -> Result<()> {
    let console: PathBuf = project::log(&format!("console-{}", prepared.profile.name));
    let mut running: Option<Machine> = None;
    for program in programs {
        let name = format!("{} in {}", program.name, prepared.profile.name);
        let mut attempt = 1;
        loop {
            let mut machine = match running.take() {
                Some(machine) => machine,
                None => match prepared.boot(Some(&console)) {
                    Ok(machine) => machine,
                    Err(error)
                        if error
                            .downcast_ref()
                            .is_some_and(|failure| !matches!(failure, Failure::Interrupted)) =>
                    {
                        let failed = vec!["the guest didn't come up".to_owned()];
                        report.add(&name, Counts { passed: 0, failed }, &error.to_string());
                        break;
                    }
                    Err(error) => return Err(error),
                },
            };
            let (mut counts, mut output, guest) = run_one(&mut machine, program)?;
            if guest == Guest::Crashed && attempt < ATTEMPTS {
                say(&format!(
                    "QEMU crashed under {name}, which says nothing of the tests: again, in a new guest"
                ));
                attempt += 1;
                continue;
            }
            let alarms = machine.console.take_alarms();
            if !alarms.is_empty() {
                counts.failed.push("the guest's kernel complained".to_owned());
                output = format!("{output}\n{}", alarms.join("\n"));
            }
            if guest == Guest::Usable {
                running = Some(machine);
            } else {
                output = format!("{output}\n{}", machine.end().tail());
            }
            report.add(&name, counts, &output);
            break;
        }
    }
    Ok(())
}

/// Returns the counts, the output, and how the guest is.
fn run_one(machine: &mut Machine, program: &Program) -> Result<(Counts, String, Guest)> {
    let step = Step::new(format!("In the guest: {}", program.name));
    let path = format!("/{FOLDER}/{}", program.name);
    let mut argv = vec!["/bin/sh", "-c", ALONE, &path];
    argv.extend(program.arguments.iter().map(String::as_str));
    let mut output = Vec::new();
    let result = machine.run(&argv, PROGRAM_TIMEOUT, |_, bytes| {
        output.extend_from_slice(bytes);
        let last_line = bytes.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        step.note(&String::from_utf8_lossy(last_line.unwrap_or_default()));
    });
    step.done();
    let output = String::from_utf8_lossy(&output).into_owned();
    let succeeded = matches!(result, Ok(0));
    let mut counts = match program.format {
        Format::Libtest => libtest::counts(&output, succeeded),
        Format::Checks => checks(&output, succeeded),
    };
    let guest = match result {
        Ok(_) => Guest::Usable,
        Err(Failure::Interrupted) => {
            return Err(Failure::Interrupted).context("interrupted: the tests aren't complete");
        }
        Err(failure) => {
            say(&format!("{}: {failure}", program.name));
            counts.failed.push(failure.to_string());
            match failure {
                Failure::TimedOut(_) => Guest::Usable,
                Failure::Crashed(_) => Guest::Crashed,
                _ => Guest::Lost,
            }
        }
    };
    Ok((counts, output, guest))
}

fn checks(output: &str, succeeded: bool) -> Counts {
    let passed = output.lines().filter(|line| line.starts_with("ok ")).count();
    let failed = output.lines().filter_map(|line| line.strip_prefix("not ok ")).map(str::to_owned);
    let mut counts = Counts { passed, failed: failed.collect() };
    if counts.failed.is_empty() && (!succeeded || passed == 0) {
        counts.failed.push("ended early".to_owned());
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_counted() {
        assert_eq!(checks("ok a\n# x\nnot ok b\n", false), Counts { passed: 1, failed: vec!["b".into()] });
        assert_eq!(checks("ok a\n", true), Counts { passed: 1, failed: vec![] });
        assert_eq!(checks("ok a\n", false).failed, ["ended early"]);
        assert_eq!(checks("", true).failed, ["ended early"]);
    }
}
