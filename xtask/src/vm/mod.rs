//! The guest machine: its profiles, QEMU, and what is run inside.

mod console;
mod events;
mod failure;
mod interrupt;
mod machine;
mod prepared;
mod profile;
mod qemu;
mod run;
mod shell;

pub(crate) use failure::Failure;
pub(crate) use machine::{Machine, Output};
pub(crate) use prepared::Prepared;
pub(crate) use profile::{DEFAULT as DEFAULT_PROFILE, Profile, list as list_profiles};
pub(crate) use run::{RunOptions, run, to_own_output};
pub(crate) use shell::shell;
