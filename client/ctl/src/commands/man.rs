//! `peermemctl man`

use std::{io, path::Path};

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::cli::Cli;

pub(crate) fn run(command: Option<&str>, all: Option<&Path>) -> Result<()> {
    if let Some(folder) = all {
        return clap_mangen::generate_to(Cli::command(), folder)
            .with_context(|| format!("can't write manual pages into {}", folder.display()));
    }
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
