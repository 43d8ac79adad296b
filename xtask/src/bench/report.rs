//! Results as files: JSON for programs, a table and a plot for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use peermem_bench::{Row, Verdict};
use serde::Serialize;

use super::catalogue::Benchmark;
use super::machine::Machine;
use super::plot;
use super::table;

/// What one run of a benchmark brought.
pub(super) struct Report<'a> {
    pub(super) benchmark: &'a Benchmark,
    pub(super) machine: &'a Machine,
    pub(super) rows: &'a [Row],
}

/// The JSON file.
#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    about: &'a str,
    place: String,
    machine: &'a Machine,
    rows: Vec<Judged<'a>>,
}

/// A row, and what follows from it.
#[derive(Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    row: &'a Row,
    ratio: Option<f64>,
    verdict: Option<Verdict>,
}

impl Report<'_> {
    /// Writes `NAME.json`, `NAME.md` and `NAME.svg` into `folder`.
    ///
    /// # Errors
    /// When they can't be written there.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let Benchmark { name, about, place } = self.benchmark;
        let judge = |row| Judged { row, ratio: Row::ratio(row), verdict: row.verdict() };
        let rows = self.rows.iter().map(judge).collect();
        let file = File { name, about, place: place.to_string(), machine: self.machine, rows };
        let heading = [about.to_string(), format!("{place}; {}", self.machine)];
        let plot = plot::draw(&heading, self.rows);
        let json = serde_json::to_string_pretty(&file)? + "\n";
        for (ending, text) in [("json", json), ("md", table::markdown(self.rows)), ("svg", plot)] {
            let path = folder.join(format!("{name}.{ending}"));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
