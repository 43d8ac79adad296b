//! What a person sees while a long step runs: a spinner on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a long step shows a sign of life where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Starts the clock that plain lines show; the first caller counts.
pub(crate) fn start_clock() {
    LazyLock::force(&START);
}

/// Prints one line of progress on standard error, which leaves standard output to results.
pub(crate) fn say(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("  {text}");
    } else {
        eprintln!("[{:6.1} s] {text}", START.elapsed().as_secs_f64());
    }
}

/// A step under way. Ended by [`Step::done`]; one that is dropped has failed and leaves no line,
/// since the error says what happened.
pub(crate) struct Step {
    title: String,
    started: Instant,
    shown: Cell<Instant>,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Shows that `title` begins.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        let title = title.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let spinner = ProgressBar::new_spinner().with_style(style).with_prefix(title.clone());
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        if spinner.is_none() {
            say(&format!("{title}..."));
        }
        let started = Instant::now();
        Step { title, started, shown: Cell::new(started), spinner }
    }

    /// Shows the latest line of a command's output: beside the spinner, or now and then as a line.
    pub(crate) fn note(&self, line: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(line.to_owned()),
            None if self.shown.get().elapsed() >= PLAIN_INTERVAL && !line.is_empty() => {
                self.shown.set(Instant::now());
                say(&format!("    {}", line.trim_start()));
            }
            None => {}
        }
    }

    /// Ends the step well.
    pub(crate) fn done(self) {
        let line = format!("{} ({:.1} s)", self.title, self.started.elapsed().as_secs_f64());
        match &self.spinner {
            Some(spinner) => {
                spinner.finish_and_clear();
                eprintln!("✓ {line}");
            }
            None => say(&format!("{line}: done")),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
