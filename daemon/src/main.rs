//! peermemd's command line and its life: read the config, take the socket, serve, drain.

use std::process::ExitCode;

mod args;
mod logging;
mod run;

fn main() -> ExitCode {
    let args = <args::Args as clap::Parser>::parse();
    logging::start(&args.log);
    match run::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
