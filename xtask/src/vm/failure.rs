//! How a guest can fail.

use std::time::Duration;

/// Why a guest, or a command in it, didn't get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The agent didn't report in time.
    #[error("the guest didn't come up within {} s", .0.as_secs())]
    BootTimedOut(Duration),
    /// The command ran too long, and was killed.
    #[error("the command was still running after {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The guest's kernel panicked.
    #[error("the guest's kernel panicked: {0}")]
    Panicked(String),
    /// QEMU ended while it was needed.
    #[error("the guest ended by itself")]
    Ended,
    /// QEMU itself was killed by this signal, which nobody here sent.
    #[error("QEMU crashed (signal {0})")]
    Crashed(i32),
    /// Ctrl-C or a signal asked xtask to end.
    #[error("interrupted")]
    Interrupted,
    /// The agent said something out of turn.
    #[error("the guest's agent failed: {0}")]
    Agent(String),
}

impl Failure {
    /// The exit status of an xtask command that fails so.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Failure::TimedOut(_) => 124,
            Failure::Interrupted => 130,
            _ => 125,
        }
    }
}
