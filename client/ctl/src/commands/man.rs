//! `peermemctl man`

use std::io;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::cli::Cli;

pub(crate) fn run(command: Option<&str>) -> Result<()> {
    let mut whole = Cli::command();
    whole.build();
    let about = match command {
        None => &whole,
        Some(name) => {
            whole.find_subcommand(name).with_context(|| format!("peermemctl has no command {name:?}"))?
        }
    };
    Ok(clap_mangen::Man::new(about.clone()).render(&mut io::stdout())?)
}
