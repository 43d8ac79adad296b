//! A guest that runs: its boot, commands run inside one after another, and its end.

use std::io;
use std::os::unix::{
    net::{UnixListener, UnixStream},
    process::ExitStatusExt as _,
};
use std::path::Path;
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use peermem_vm_agent::Frame;

use super::console::Console;
use super::events::{self, Event};
use super::failure::Failure;
use super::qemu::{self, Files, Mode};
use super::{Profile, interrupt};
use crate::progress::say;

/// How often a guest is started in all when its boot fails: QEMU's emulation of two processors panics, hangs or
/// crashes now and then. Each time is told.
const BOOT_ATTEMPTS: u32 = 3;

/// How long a killed command may take to end.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// How long a kernel that panicked may go on printing.
const PANIC_GRACE: Duration = Duration::from_secs(3);

/// How often waiting looks for Ctrl-C.
const POLL: Duration = Duration::from_millis(200);

/// Where a piece of a command's output went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A guest that is up. Ends with this value.
pub(crate) struct Machine {
    qemu: Child,
    events: Receiver<Event>,
    port: Option<UnixStream>,
    /// The guest's console.
    pub console: Console,
}

impl Machine {
    /// Boots a guest and waits until its devices are set up.
    ///
    /// # Errors
    /// A [`Failure`] with the console's last lines when the guest doesn't come up.
    pub(crate) fn boot(
        profile: &Profile,
        files: &Files,
        console_log: &Path,
        timeout: Duration,
    ) -> Result<Self> {
        interrupt::watch()?;
        let mut attempt = 1;
        loop {
            files.make_drives(profile)?;
            let mut machine = Self::start(profile, files, console_log)?;
            match machine.wait_until_ready(timeout) {
                Ok(()) => return Ok(machine),
                Err(failure @ (Failure::Panicked(_) | Failure::Ended | Failure::BootTimedOut(_)))
                    if attempt < BOOT_ATTEMPTS =>
                {
                    say(&format!("the guest didn't boot, trying again: {failure}"));
                    attempt += 1;
                }
                Err(failure) => {
                    let text = format!("{failure}\n{}", machine.end().tail().trim_end());
                    return Err(failure).context(text);
                }
            }
        }
    }

    fn start(profile: &Profile, files: &Files, console_log: &Path) -> Result<Self> {
        let (console, log) = Console::create(console_log)?;
        let socket = files.agent_socket();
        if socket.exists() {
            std::fs::remove_file(&socket)?;
        }
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        let (reader, writer) = io::pipe()?;
        let mut command = qemu::command(profile, files, Mode::Run);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let qemu = command.spawn().context("cannot start QEMU")?;

        let events = events::watch(listener, console.clone(), reader, log);
        Ok(Machine { qemu, events, port: None, console })
    }

    fn wait_until_ready(&mut self, timeout: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.next_event(deadline)? {
                Some(Event::Connected(port)) => self.port = Some(port),
                Some(Event::Frame(Frame::Ready)) => return Ok(()),
                Some(other) => return Err(other.into_failure()),
                None => return Err(Failure::BootTimedOut(timeout)),
            }
        }
    }

    /// Runs `argv` in the guest, as root, and returns its exit status. `output` gets what it prints.
    ///
    /// # Errors
    /// After [`Failure::TimedOut`] the guest can be used on; after any other it can't.
    pub(crate) fn run(
        &mut self,
        argv: &[&str],
        timeout: Duration,
        output: impl FnMut(Output, &[u8]),
    ) -> Result<i32, Failure> {
        self.run_to_its_end(argv, timeout, output).map_err(|failure| self.explain(failure))
    }

    /// Tells a QEMU that crashed from one that ended.
    fn explain(&mut self, failure: Failure) -> Failure {
        let signal = |status: ExitStatus| status.signal();
        match failure {
            Failure::Ended => self.qemu.wait().ok().and_then(signal).map_or(failure, Failure::Crashed),
            other => other,
        }
    }

    fn run_to_its_end(
        &mut self,
        argv: &[&str],
        timeout: Duration,
        mut output: impl FnMut(Output, &[u8]),
    ) -> Result<i32, Failure> {
        self.send(&Frame::Run(argv.iter().map(ToString::to_string).collect()))?;
        let mut deadline = Instant::now() + timeout;
        let mut killed = false;
        loop {
            match self.next_event(deadline)? {
                Some(Event::Frame(Frame::Stdout(bytes))) => output(Output::Stdout, &bytes),
                Some(Event::Frame(Frame::Stderr(bytes))) => output(Output::Stderr, &bytes),
                Some(Event::Frame(Frame::Exit(_))) if killed => return Err(Failure::TimedOut(timeout)),
                Some(Event::Frame(Frame::Exit(status))) => return Ok(status),
                Some(other) => return Err(other.into_failure()),
                None if killed => return Err(Failure::Agent("it can't end the command".into())),
                None => {
                    self.send(&Frame::Kill)?;
                    killed = true;
                    deadline = Instant::now() + KILL_GRACE;
                }
            }
        }
    }

    /// Ends the guest, says what its kernel complained about, and turns a command's `result` into an
    /// exit status; a failure is told with the console's last lines.
    pub(crate) fn conclude(self, result: Result<i32, Failure>) -> ExitCode {
        let console = self.end();
        for line in console.take_alarms() {
            say(&format!("the guest's kernel complained: {line}"));
        }
        match result {
            Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
            Err(failure) => {
                eprintln!("error: {failure}");
                if !matches!(failure, Failure::Interrupted) {
                    eprint!("{}", console.tail());
                }
                ExitCode::from(failure.exit_status())
            }
        }
    }

    /// Ends the guest at once: it keeps nothing that would need an orderly shutdown.
    pub(crate) fn end(mut self) -> Console {
        self.stop();
        self.console.clone()
    }

    fn stop(&mut self) {
        // A kernel that panics says why after that, and then ends QEMU by a reboot.
        if self.console.has_panicked() && self.console_ends_within(PANIC_GRACE) {
            let _ = self.qemu.wait();
            return;
        }
        // Fails only for a QEMU that has ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        self.console_ends_within(POLL);
    }

    fn console_ends_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn send(&mut self, frame: &Frame) -> Result<(), Failure> {
        let Some(port) = &mut self.port else { return Err(Failure::Agent("it isn't connected".into())) };
        frame.write_to(port).map_err(|error| Failure::Agent(error.to_string()))
    }

    /// The next event, or `None` at the deadline.
    fn next_event(&self, deadline: Instant) -> Result<Option<Event>, Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let received = self.events.recv_timeout(left.min(POLL));
            if interrupt::received() {
                return Err(Failure::Interrupted);
            }
            match received {
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Ended),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}
