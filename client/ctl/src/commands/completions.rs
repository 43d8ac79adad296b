//! `peermemctl completions`

use std::io::{self, Write};

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;

pub(crate) fn run(shell: Shell) -> Result<()> {
    // Into memory first: `generate` panics when its writer fails, as a closed pipe does.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "peermemctl", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
