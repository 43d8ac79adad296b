//! `cargo xtask bench`: figures beside their baselines, as tables, JSON and plots.

mod catalogue;
mod docs;
mod machine;
mod plot;
mod program;
mod report;
mod table;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::project;
use crate::vm::Failure;
use catalogue::{BENCHMARKS, Benchmark};
use machine::Machine;
use report::Report;

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Only the benchmarks with these names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Say which benchmarks there are
    #[arg(long)]
    list: bool,
    /// Put the tables into docs/performance.md too
    #[arg(long)]
    docs: bool,
    /// Only what runs on this machine
    #[arg(long)]
    host_only: bool,
}

/// Runs the benchmarks. One that ends early is told of, and doesn't keep the others from running.
///
/// # Errors
/// When there is no benchmark of a name, results can't be written, or it is interrupted.
pub(crate) fn run(options: &BenchOptions) -> Result<ExitCode> {
    if options.list {
        for benchmark in BENCHMARKS {
            println!("{:<14} {} ({})", benchmark.name, benchmark.about, benchmark.place);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(options)?;
    let machine = Machine::this(project::root());
    println!("{machine}");
    let mut failed = Vec::new();
    for benchmark in chosen {
        match program::rows_of(benchmark) {
            Ok(rows) => {
                let report = Report { benchmark, machine: &machine, rows: &rows };
                println!("\n{}: {}\n{}", benchmark.name, benchmark.about, table::draw(&rows));
                report.write(&project::target().join("bench"))?;
                let document = project::root().join("docs/performance.md");
                if options.docs && !docs::refresh(&document, &report)? {
                    println!("{} has no place for {}", document.display(), benchmark.name);
                }
            }
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Interrupted)) => {
                return Err(error).context("interrupted: the benchmarks aren't complete");
            }
            Err(error) => {
                eprintln!("error: {}: {error:#}", benchmark.name);
                failed.push(benchmark.name);
            }
        }
    }
    println!("\nJSON, tables and plots: {}", project::target().join("bench").display());
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("without a result: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn choose(options: &BenchOptions) -> Result<Vec<&'static Benchmark>> {
    if let Some(unknown) =
        options.names.iter().find(|name| !BENCHMARKS.iter().any(|known| known.name == **name))
    {
        bail!("there is no benchmark {unknown}: `cargo xtask bench --list` shows those that there are");
    }
    let chosen = BENCHMARKS.iter().filter(|benchmark| {
        (options.names.is_empty() || options.names.iter().any(|name| name == benchmark.name))
            && (!options.host_only || benchmark.place.is_host())
    });
    Ok(chosen.collect())
}
