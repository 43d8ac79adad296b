//! Command line of peermemd: regions, leases and what can be done with them, and what the machine can do.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod failure;
mod hold;
mod initiator;
mod output;
mod sizes;
mod time;

use std::process::ExitCode;

use clap::Parser;

use self::{cli::Cli, output::Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match commands::run(&cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, cli.json),
    }
}
