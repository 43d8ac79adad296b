//! `peermemctl selftest`: what an RDMA device does with bytes, and whether they arrive between drives and memory.

mod device;
mod pairs;
mod short;

use std::path::Path;

use anyhow::Result;

use crate::{cli::Selftest, commands::connect_to, failure::Lost, output::Output};

pub(crate) fn run(socket: Option<&Path>, args: &Selftest, output: &Output) -> Result<()> {
    if !args.pairs && !args.report {
        return device::run(args, output);
    }
    let client = connect_to(socket)?;
    if args.report {
        short::report_devices(&client, output)?;
    }
    let tested = pairs::test(&client, args.report)?;
    pairs::print(&tested, output)?;
    lost(&tested)?;
    match tested.iter().filter(|pair| pair.is_untested()).count() {
        0 => Ok(()),
        untested => anyhow::bail!("{untested} of {} pairs couldn't be tested", tested.len()),
    }
}

fn lost(tested: &[pairs::Pair]) -> Result<()> {
    match tested.iter().filter(|pair| pair.is_lost()).count() {
        0 => Ok(()),
        lost => Err(Lost { lost, all: tested.len() }.into()),
    }
}
