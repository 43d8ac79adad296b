//! What passed and what failed so far.

use std::process::ExitCode;

/// Counts of a whole run.
#[derive(Debug, Default)]
pub(super) struct Report {
    passed: usize,
    failed: Vec<String>,
}

/// Counts of one test program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// How many tests passed.
    pub passed: usize,
    /// The names of those that failed, and of programs that ended without saying what they did.
    pub failed: Vec<String>,
}

impl Report {
    /// Adds the counts of the program `name` and says so; `output` is shown when something failed.
    pub(super) fn add(&mut self, name: &str, counts: Counts, output: &str) {
        let Counts { passed, failed } = counts;
        if failed.is_empty() {
            println!("✓ {name}: {passed} passed");
        } else {
            println!("✗ {name}: {passed} passed, {} failed", failed.len());
            for line in output.lines() {
                println!("    {line}");
            }
        }
        self.passed += passed;
        self.failed.extend(failed.into_iter().map(|test| format!("{name}: {test}")));
    }

    /// Adds a check that is one test by itself.
    pub(super) fn add_check(&mut self, name: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => {
                println!("✓ {name}");
                self.passed += 1;
            }
            Err(error) => {
                println!("✗ {name}\n{error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Prints the failed tests and, as the last line, the counts. A run of no test has failed.
    pub(super) fn finish(self) -> ExitCode {
        if !self.failed.is_empty() {
            println!("\nfailed:");
            for name in &self.failed {
                println!("    {name}");
            }
        }
        println!("\n{} passed, {} failed", self.passed, self.failed.len());
        if self.passed > 0 && self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
