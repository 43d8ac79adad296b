//! One file a subcommand.

mod bench;
mod claim;
mod completions;
mod doctor;
mod explain;
mod leases;
mod man;
mod map;
mod regions;
mod revoke;
mod schema;
mod selftest;
mod status;
mod topo;
mod verify;
mod watch;

use std::path::Path;

use anyhow::Result;
use peermem::Client;

use crate::{
    cli::{Cli, Command},
    output::Output,
};

/// Does what the command line asks for.
pub(crate) fn run(cli: &Cli, output: &Output) -> Result<()> {
    match &cli.command {
        Command::Status => status::run(&connect(cli)?, output),
        Command::Regions => regions::run(&connect(cli)?, output),
        Command::Leases(args) => leases::run(&connect(cli)?, args, output),
        Command::Map(args) => map::run(&connect(cli)?, args, output),
        Command::Claim(args) => claim::run(&connect(cli)?, args, output),
        Command::Revoke(args) => revoke::run(&connect(cli)?, args, output),
        Command::Explain(args) => explain::run(&connect(cli)?, args, output),
        Command::Watch => watch::run(&connect(cli)?, output),
        Command::Verify(args) => verify::run(&connect(cli)?, args, output),
        Command::Bench(args) => bench::run(&connect(cli)?, args, output),
        Command::Topo(args) => topo::run(args, output),
        Command::Doctor(args) => doctor::run(cli.socket.as_deref(), args, output),
        Command::Selftest(args) => selftest::run(cli.socket.as_deref(), args, output),
        Command::Schema { command } => schema::run(command.as_deref(), output),
        Command::Completions { shell } => completions::run(*shell),
        Command::Man { command, all } => man::run(command.as_deref(), all.as_deref()),
    }
}

fn connect(cli: &Cli) -> Result<Client> {
    connect_to(cli.socket.as_deref())
}

fn connect_to(socket: Option<&Path>) -> Result<Client> {
    Ok(match socket {
        Some(path) => Client::connect_to(path)?,
        None => Client::connect()?,
    })
}
