//! peermemd's command line and its life: read the config, take the socket, serve, drain.

use std::process::ExitCode;

use peermemd::config::ConfigError;

mod args;
mod logging;
mod run;

/// `EX_CONFIG` of sysexits.h, by which the unit knows that another try is in vain.
const CONFIG_UNUSABLE: u8 = 78;

fn main() -> ExitCode {
    let args = <args::Args as clap::Parser>::parse();
    logging::start(&args.log);
    match run::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            if error.is::<ConfigError>() { ExitCode::from(CONFIG_UNUSABLE) } else { ExitCode::FAILURE }
        }
    }
}
