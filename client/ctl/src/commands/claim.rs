//! `peermemctl claim`

use std::io;

use anyhow::{Context, Result};
use peermem::{Client, proto::Token};

use super::map::print;
use crate::{cli::Claim, failure::Usage, hold::Hold, output::Output};

pub(crate) fn run(client: &Client, args: &Claim, output: &Output) -> Result<()> {
    // Before the hold takes the signals over: somebody may want to end the reading.
    let token = args.token.map_or_else(read_token, Ok)?;
    let hold = Hold::prepare(client, args.hold)?;
    // What ends after the token says nothing about the hold.
    let hold = if args.token.is_none() { hold.ignoring_stdin() } else { hold };
    let lease = client.claim(token).context("can't claim the lease")?;
    print(&lease.info(), &hold.in_words(), output)?;
    hold.hold(lease, None)
}

fn read_token() -> Result<Token> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("can't read the token from standard input")?;
    line.trim().parse().map_err(|error| Usage(format!("standard input holds no token: {error}")).into())
}
