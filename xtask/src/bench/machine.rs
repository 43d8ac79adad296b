//! On which machine, when, and of which sources.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::command::output_of;

/// What a figure means nothing without.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    commit: String,
    date_utc: String,
    /// What else ran: the load of the minute before.
    load: String,
}

impl Machine {
    /// This one, now, with the sources in `checkout`. What can't be found out is `unknown`.
    pub(super) fn this(checkout: &Path) -> Self {
        let said = |command: &mut Command| {
            output_of(command).map_or_else(|_| unknown(), |text| text.trim().to_owned())
        };
        let mut describe = Command::new("git");
        describe.args(["describe", "--always", "--dirty", "--exclude=*"]).current_dir(checkout);
        Self {
            cpu: cpu().unwrap_or_else(unknown),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: first_word("/proc/sys/kernel/osrelease"),
            commit: said(&mut describe),
            date_utc: said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M"])),
            load: first_word("/proc/loadavg"),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cpus, kernel, commit, date_utc, load } = self;
        // What a builder appends says nothing to others.
        let kernel = kernel.split('-').next().unwrap_or(kernel);
        write!(f, "{cpu}, {cpus} CPUs, Linux {kernel}, commit {commit}, {date_utc} UTC, load {load}")
    }
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_word(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().map_or_else(unknown, str::to_owned)
}

fn unknown() -> String {
    "unknown".to_owned()
}
