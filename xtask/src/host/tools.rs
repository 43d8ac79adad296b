//! Programs that the tasks use and Debian doesn't package: cargo's subcommands, and a Python program.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache::{Cache, Entry};
use crate::command::{find_program, run_fetching};
use crate::progress::Step;
use crate::project;

/// Debian's own.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A program from crates.io, and the release of it that is installed where the machine has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// The crate's name and the program's.
    pub name: &'static str,
    /// The release.
    pub version: &'static str,
}

impl Tool {
    /// Where the program is: on the `PATH`, or in the cache, where it is installed unless it is there.
    ///
    /// # Errors
    /// When it can't be installed, with cargo's output.
    pub(crate) fn find(self) -> Result<PathBuf> {
        let Tool { name, version } = self;
        if let Some(program) = find_program(name) {
            return Ok(program);
        }
        let tools = Cache::open()?.folder("tools")?;
        let program = tools.join("bin").join(name);
        if !program.exists() {
            let step = Step::new(format!("Install {name} {version}"));
            let mut install = project::cargo();
            install.args(["install", "--locked", &format!("{name}@{version}"), "--root"]).arg(&tools);
            run_fetching(&mut install, &step, &project::log(name), || Ok(()))?;
            step.done();
        }
        Ok(program)
    }
}

/// A folder for `PYTHONPATH` with `package` of PyPI in it and all that it needs; made unless it is there.
///
/// # Errors
/// When it can't be installed, with pip's output.
pub(crate) fn python_path(package: &str, version: &str) -> Result<Entry> {
    Cache::open()?.entry(package, version, |folder| {
        let step = Step::new(format!("Install {package} {version}"));
        let mut pip = Command::new(PYTHON);
        pip.args(["-m", "pip", "install", &format!("{package}=={version}"), "--target"]).arg(folder);
        run_fetching(&mut pip, &step, &project::log(package), || Ok(()))?;
        step.done();
        Ok(())
    })
}
