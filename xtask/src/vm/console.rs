//! The guest's console: kept in a file, its last lines at hand, watched for kernel alarms.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// Lines kept for [`Console::tail`].
const TAIL_LINES: usize = 40;

/// What the guest's kernel and services have printed so far. Clones share it.
#[derive(Clone)]
pub(crate) struct Console {
    log: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    tail: VecDeque<String>,
    alarms: Vec<String>,
    panicked: bool,
}

/// What a line of the console means for the run.
#[derive(Debug, PartialEq, Eq)]
enum Alarm {
    /// The kernel goes on, and has found a fault in itself or a module.
    Warning,
    /// The kernel has stopped.
    Panic,
}

impl Console {
    /// A console whose log is `log`. A file of that name is replaced, not written over, since
    /// another run may still write to it.
    ///
    /// # Errors
    /// When the log can't be made.
    pub(crate) fn create(log: &Path) -> Result<(Self, File)> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        if log.is_file() {
            fs::remove_file(log).with_context(|| format!("cannot replace {}", log.display()))?;
        }
        let file =
            File::create(log).with_context(|| format!("cannot write the console to {}", log.display()))?;
        Ok((Console { log: log.to_owned(), seen: Arc::default() }, file))
    }

    /// Reads `from` to its end; `on_panic` gets the line in which the kernel says that it has stopped.
    ///
    /// # Errors
    /// When the log can't be written.
    pub(crate) fn follow(
        &self,
        from: impl Read,
        mut log: File,
        mut on_panic: impl FnMut(String),
    ) -> io::Result<()> {
        for line in BufReader::new(from).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned();
            writeln!(log, "{line}")?;
            let alarm = alarm(&line);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match alarm {
                Some(Alarm::Warning) => seen.alarms.push(line.clone()),
                Some(Alarm::Panic) => seen.panicked = true,
                None => {}
            }
            if seen.tail.len() == TAIL_LINES {
                seen.tail.pop_front();
            }
            seen.tail.push_back(line.clone());
            drop(seen);
            if alarm == Some(Alarm::Panic) {
                on_panic(line);
            }
        }
        Ok(())
    }

    /// Takes the lines in which the kernel warned of a fault since the last call.
    pub(crate) fn take_alarms(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).alarms)
    }

    /// Tells whether the kernel said that it has stopped.
    pub(crate) fn has_panicked(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).panicked
    }

    /// The last lines, and where all of them are.
    pub(crate) fn tail(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("the guest's last console lines (all: {}):\n", self.log.display());
        if seen.tail.is_empty() {
            text.push_str("    (none)\n");
        }
        for line in &seen.tail {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Kernel lines are `[seconds] text`; other programs' lines on the console raise no alarm.
fn alarm(line: &str) -> Option<Alarm> {
    const WARNINGS: &[&str] = &[
        "WARNING: ",
        "BUG: ",
        "Oops: ",
        "kernel BUG at ",
        "general protection fault",
        "watchdog: BUG: ",
        "INFO: task ",
        "UBSAN: ",
        "refcount_t: ",
        "list_add corruption",
        "list_del corruption",
    ];
    let (_, text) = line.strip_prefix('[')?.split_once("] ")?;
    if text.starts_with("Kernel panic - not syncing") {
        Some(Alarm::Panic)
    } else {
        WARNINGS.iter().any(|start| text.starts_with(start)).then_some(Alarm::Warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_told_from_other_lines() {
        assert_eq!(alarm("[   12.5] WARNING: CPU: 0 PID: 1 at x.c:3 f+0x1/0x2"), Some(Alarm::Warning));
        assert_eq!(alarm("[    1.286126] Oops: int3: 0000 [#1] SMP NOPTI"), Some(Alarm::Warning));
        assert_eq!(alarm("[    1.38] Kernel panic - not syncing: Fatal exception"), Some(Alarm::Panic));
        assert_eq!(alarm("[    1.38] peermem_testgpu: no BUG: here"), None);
        assert_eq!(alarm("WARNING: printed by a script"), None);
    }

    #[test]
    fn the_tail_is_bounded_and_alarms_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let (console, log) = Console::create(&folder.path().join("console.log")).unwrap();
        let text =
            format!("[ 1.0] BUG: one\r\n{}[ 2.0] Kernel panic - not syncing: x\n", "line\n".repeat(50));
        let mut panics = Vec::new();
        console.follow(text.as_bytes(), log, |line| panics.push(line)).unwrap();
        assert_eq!(panics, ["[ 2.0] Kernel panic - not syncing: x"]);
        assert_eq!(console.take_alarms(), ["[ 1.0] BUG: one"]);
        assert!(console.take_alarms().is_empty() && console.has_panicked());
        assert_eq!(console.tail().lines().count(), 1 + TAIL_LINES);
    }
}
