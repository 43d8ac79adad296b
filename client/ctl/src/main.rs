//! Command line of peermemd: status, regions, leases, map, watch, verify, topo, doctor, selftest.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod failure;
mod hold;
mod initiator;
mod output;

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
