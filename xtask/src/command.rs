//! Running other programs: output goes to a log, and a failure tells all that is needed.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::{Step, say};

/// Lines of output shown when a command fails.
const SHOWN_LINES: usize = 30;

/// Runs `command`, its output going to `log` and, line by line, beside the step's title.
///
/// # Errors
/// Names the command, its status, its last lines of output and the log when it fails.
pub(crate) fn run_logged(command: &mut Command, step: &Step, log: &Path) -> Result<()> {
    let mut last = VecDeque::with_capacity(SHOWN_LINES);
    let status = follow(command, step, log, |line| {
        if last.len() == SHOWN_LINES {
            last.pop_front();
        }
        last.push_back(line);
    })?;
    if !status.success() {
        let output = Vec::from(last).join("\n    ");
        bail!(
            "`{}` failed: {status}\n  its last lines:\n    {output}\n  all of them: {}",
            shown(command),
            log.display()
        );
    }
    Ok(())
}

/// As [`run_logged`], for a command that fetches from the network: a mirror in the middle of a change is asked again. `clean` removes what
/// an attempt that failed has left.
///
/// # Errors
/// Those of the last of several attempts; when `clean` fails.
pub(crate) fn run_fetching(
    command: &mut Command,
    step: &Step,
    log: &Path,
    clean: impl Fn() -> Result<()>,
) -> Result<()> {
    const ATTEMPTS: u32 = 3;
    const PAUSE: Duration = Duration::from_secs(10);
    for _ in 1..ATTEMPTS {
        let Err(error) = run_logged(command, step, log) else { return Ok(()) };
        say(&format!("trying again: {error}"));
        clean()?;
        thread::sleep(PAUSE);
    }
    run_logged(command, step, log)
}

/// As [`run_logged`], but returns all output and whether the command succeeded.
///
/// # Errors
/// When the command can't be started or the log can't be written.
pub(crate) fn run_captured(command: &mut Command, step: &Step, log: &Path) -> Result<(String, bool)> {
    let mut output = String::new();
    let status = follow(command, step, log, |line| {
        output.push_str(&line);
        output.push('\n');
    })?;
    Ok((output, status.success()))
}

fn follow(
    command: &mut Command,
    step: &Step,
    log: &Path,
    mut each_line: impl FnMut(String),
) -> Result<ExitStatus> {
    let shown = shown(command);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut log_file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    writeln!(log_file, "$ {shown}")?;

    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    // The command holds the pipe's writing ends, which must close here for the pipe to end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        writeln!(log_file, "{line}")?;
        step.note(&line);
        each_line(line);
    }
    Ok(child.wait()?)
}

/// Runs `command` and returns what it printed on standard output.
///
/// # Errors
/// Names the command, its status and its standard error when it fails.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed bytes that aren't UTF-8"))
}

/// The program of this name on the `PATH`, if there is one.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The command as one would type it (arguments with spaces quoted).
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_status_output_and_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/step.log");
        let mut command = Command::new("sh");
        command.args(["-c", "for i in $(seq 40); do echo line $i; done; echo oh >&2; exit 3"]);
        let error = run_logged(&mut command, &Step::new("test"), &log).unwrap_err().to_string();
        assert!(error.starts_with("`sh -c '"), "{error}");
        assert!(
            error.contains("exit status: 3") && error.contains("oh") && error.contains("line 12"),
            "{error}"
        );
        assert!(!error.contains("line 11\n") && error.contains("step.log"), "{error}");
        assert!(fs::read_to_string(&log).unwrap().contains("line 1\n"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output_of(&mut Command::new("no-such-program")).unwrap_err().to_string();
        assert_eq!(error, "cannot start `no-such-program`");
    }
}
