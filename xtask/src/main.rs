//! Project tasks: setup, test, bench, demo, package, vm.
#![forbid(unsafe_code)]

mod bench;
mod cache;
mod command;
mod demo;
mod guest;
mod host;
mod package;
mod progress;
mod project;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tasks of the peermem project. Each sets up what it needs: Debian packages, the guest machine, the build.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install missing Debian packages and make the guest's root, kernel and modules
    Setup,
    /// Show device-to-device transfers in a guest: two drives, a GPU, soft-RoCE and the daemon
    Demo,
    /// Run every check and test, on this machine and in guests; the last line is `N passed, M failed`
    Test(test::TestOptions),
    /// Make the Debian package, and print its path
    Package(package::PackageOptions),
    /// Measure against baselines, on this machine and in guests: tables, JSON and plots, and no threshold that fails
    Bench(bench::BenchOptions),
    /// Try things in the guest machine
    #[command(subcommand)]
    Vm(VmTask),
}

#[derive(Debug, Subcommand)]
enum VmTask {
    /// Boot a guest with everything installed and run a script as root inside
    ///
    /// Ends with the script's status; 124 when it took too long, 125 when the guest failed, 130 after Ctrl-C.
    Run(vm::RunOptions),
    /// Boot a guest and give a root prompt
    Shell {
        /// Guest profile
        #[arg(long, value_name = "PROFILE", default_value = vm::DEFAULT_PROFILE)]
        machine: String,
    },
    /// List the guest profiles and what each has
    Profiles,
}

fn main() -> ExitCode {
    progress::start_clock();
    let arguments = Arguments::parse();
    let in_guest = matches!(arguments.task, Task::Vm(_));
    match perform(&arguments.task) {
        Ok(status) => status,
        Err(error) => {
            let failure = error.downcast_ref::<vm::Failure>();
            match failure {
                // Its context says it already, with the console.
                Some(_) => eprintln!("error: {error}"),
                None => eprintln!("error: {error:#}"),
            }
            // A script's own status may be 1, so what isn't its fault has another.
            ExitCode::from(failure.map_or(if in_guest { 125 } else { 1 }, vm::Failure::exit_status))
        }
    }
}

fn perform(task: &Task) -> Result<ExitCode> {
    match task {
        Task::Setup => guest::set_up_all().map(|()| ExitCode::SUCCESS),
        Task::Demo => demo::demo(),
        Task::Test(options) => test::run(options),
        Task::Package(options) => package::run(options),
        Task::Bench(options) => bench::run(options),
        Task::Vm(VmTask::Run(options)) => vm::run(options),
        Task::Vm(VmTask::Shell { machine }) => vm::shell(machine),
        Task::Vm(VmTask::Profiles) => vm::list_profiles().map(|()| ExitCode::SUCCESS),
    }
}
