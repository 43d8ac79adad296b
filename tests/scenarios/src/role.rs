//! Scenarios with several processes: this test program again, in another role.
//!
//! A role is a test marked `#[ignore]`, so that nobody runs it but a scenario. It says what it has to say in lines of
//! JSON, among those that the test harness prints, and goes on until it is let go.

use std::{
    env,
    io::{self, BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use serde_json::Value;

use crate::{command::json, user::User, wait::PATIENCE};

/// In front of what a role says.
const MARK: &str = "@@ ";

/// A process in a role. Killed when dropped.
#[derive(Debug)]
pub struct Role {
    process: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<Value>,
}

impl Role {
    /// Starts this program as the test `name`, by `user` or else by root.
    pub fn start(name: &str, user: Option<&User>) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
        let mut command = match user {
            Some(user) => user.command(&command),
            None => command,
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (say, said) = mpsc::channel();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(text) = line.strip_prefix(MARK) {
                    // The scenario may have ended meanwhile.
                    let _ = say.send(json(text));
                }
            }
        });
        Self { stdin: process.stdin.take(), process, said }
    }

    /// What it says next.
    pub fn hear(&self) -> Value {
        self.said.recv_timeout(PATIENCE).expect("the role ended, or hangs")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Lets it end by itself, which it must do without a panic.
    pub fn let_go(mut self) {
        drop(self.stdin.take());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the role ended with {status}");
    }

    /// `kill -9`
    pub fn kill(mut self) -> ExitStatus {
        self.process.kill().unwrap();
        self.process.wait().unwrap()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tells the scenario.
pub fn say(what: &Value) {
    // The harness has begun a line.
    println!("\n{MARK}{what}");
}

/// Waits until the scenario lets go, or has ended.
pub fn until_let_go() {
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
