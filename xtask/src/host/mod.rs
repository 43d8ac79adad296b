//! The machine that runs xtask: its Debian release, its packages and the mirror it uses.

mod apt_sources;
mod packages;
mod release;
mod tools;

pub(crate) use apt_sources::mirror;
pub(crate) use packages::install_missing;
pub(crate) use release::Release;
pub(crate) use tools::{PYTHON, Tool, python_path};
