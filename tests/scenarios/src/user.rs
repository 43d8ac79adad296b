//! Ordinary users.

use std::{env, process::Command};

use crate::command::{put_back, run, succeed};

/// A user without privileges, until dropped.
#[derive(Debug)]
pub struct User {
    name: &'static str,
}

impl User {
    /// Adds one, a member of its own group only.
    pub fn add(name: &'static str) -> Self {
        run(&format!("useradd --no-create-home --user-group {name}"));
        Self { name }
    }

    /// Adds one who may use the daemon.
    pub fn add_member(name: &'static str) -> Self {
        run(&format!("useradd --no-create-home --user-group --groups peermem {name}"));
        Self { name }
    }

    /// Its number.
    pub fn uid(&self) -> u32 {
        succeed(Command::new("id").args(["--user", self.name])).trim().parse().unwrap()
    }

    /// `command`, run by this user.
    pub fn command(&self, command: &Command) -> Command {
        let mut by_user = Command::new("setpriv");
        by_user.arg(format!("--reuid={}", self.name)).arg(format!("--regid={}", self.name));
        by_user.args(["--init-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]);
        by_user.arg(command.get_program()).args(command.get_args());
        by_user.current_dir(env::temp_dir());
        by_user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        put_back(&format!("userdel {}", self.name));
    }
}
