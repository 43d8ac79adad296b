//! Scenarios with several processes: this test program again, in another role.
//!
//! A role is a test marked `#[ignore]`, so that nobody runs it but a scenario. It says what it has to say in lines of
//! JSON, among those that the test harness prints, is told things in lines of JSON, and goes on until it is let go.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, Receiver},
    },
    thread,
};

use serde::{Serialize, de::DeserializeOwned};
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
    pub fn hear<T: DeserializeOwned>(&self) -> T {
        let said = self.said.recv_timeout(PATIENCE).expect("the role ended, or hangs");
        serde_json::from_value(said.clone()).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Tells it something.
    pub fn tell(&mut self, what: &impl Serialize) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{}", serde_json::to_string(what).unwrap()).unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tells it to end by itself, and doesn't wait.
    pub fn loosen(&mut self) {
        drop(self.stdin.take());
    }

    /// Lets it end by itself, which it must do without a panic.
    pub fn let_go(mut self) {
        self.loosen();
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
pub fn say(what: &impl Serialize) {
    // The harness has begun a line.
    println!("\n{MARK}{}", serde_json::to_string(what).unwrap());
}

/// What the scenario tells next; nothing when it lets go.
pub fn told<T: DeserializeOwned>() -> Option<T> {
    let mut line = String::new();
    let length = io::stdin().read_line(&mut line).unwrap();
    (length > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
}

/// Waits until the scenario lets go, or has ended.
pub fn until_let_go() {
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Does something again and again until the scenario lets go, or it fails. Returns how often it was done.
pub fn repeat_until_let_go<E>(mut step: impl FnMut(u64) -> Result<(), E>) -> (u64, Result<(), E>) {
    let over = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&over);
    thread::spawn(move || {
        until_let_go();
        waits.store(true, Relaxed);
    });
    for done in 0.. {
        if over.load(Relaxed) {
            return (done, Ok(()));
        }
        if let Err(error) = step(done) {
            return (done, Err(error));
        }
    }
    unreachable!("nobody counts that far")
}
