//! How a failure ends: its exit code, its stable code, its words.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use peermem::{CallFailed, ConnectError, ConnectionError, proto::LeaseId};
use peermem_doctor::Tally;
use thiserror::Error;

/// A mistake in the command line that clap couldn't see.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A verification that found wrong bytes.
#[derive(Debug, Error)]
#[error("{wrong} of {all} transfers moved wrong bytes")]
pub(crate) struct Mismatch {
    /// How many were wrong.
    pub(crate) wrong: usize,
    /// How many there were.
    pub(crate) all: usize,
}

/// A self-test that found wrong bytes.
#[derive(Debug, Error)]
#[error("{wrong} of {all} combinations moved wrong bytes; {}", if *.unguarded == 0 {
    "this library refuses such transfers".to_owned()
} else {
    format!("{unguarded} of them this library doesn't refuse: don't use the device")
})]
pub(crate) struct Defective {
    /// How many were wrong.
    pub(crate) wrong: usize,
    /// How many there were.
    pub(crate) all: usize,
    /// How many of the wrong ones endpoints would carry out.
    pub(crate) unguarded: usize,
}

/// Pairs of devices between which bytes don't arrive.
#[derive(Debug, Error)]
#[error("between {lost} of {all} pairs of a drive and a device's memory bytes don't arrive")]
pub(crate) struct Lost {
    /// Between how many.
    pub(crate) lost: usize,
    /// Of how many.
    pub(crate) all: usize,
}

/// What doctor found, other than that all is well.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Unwell(pub(crate) Tally);

/// A lease that was held is over.
#[derive(Debug, Error)]
#[error("lease {lease} is over: {why}")]
pub(crate) struct LeaseOver {
    /// The lease.
    pub(crate) lease: LeaseId,
    /// What became of it, and what to do.
    pub(crate) why: String,
}

/// What the policy refuses; why has been printed.
#[derive(Debug, Error)]
#[error("the policy doesn't allow it")]
pub(crate) struct NotAllowed;

/// The exit codes that `--help` lists, each with the stable code of failures that have no better one.
const FAILED: (u8, &str) = (1, "failed");
const USAGE: (u8, &str) = (2, "usage");
const UNREACHABLE: (u8, &str) = (3, "unreachable");
const MISMATCH: (u8, &str) = (4, "mismatch");
const FAILURES: (u8, &str) = (5, "checks_failed");
const WARNINGS: (u8, &str) = (6, "checks_warned");
const LEASE_OVER: (u8, &str) = (7, "lease_over");

/// Says on standard error what failed, and gives the code to exit with.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    ExitCode::from(say(error, json))
}

/// Says on standard error what failed, and what the exit code would be for that alone.
pub(crate) fn say(error: &anyhow::Error, json: bool) -> u8 {
    let (exit, code) = classify(error);
    let message = printable(&format!("{error:#}"));
    let text = if json {
        serde_json::json!({ "error": code, "message": message }).to_string()
    } else {
        format!("peermemctl: {message}")
    };
    // Where even this can't be said, the exit code still speaks.
    let _ = writeln!(io::stderr(), "{text}");
    exit
}

/// Whoever read our output has seen enough: `peermemctl regions | head -1`. Sockets to the daemon fail with types of
/// their own, so a bare I/O error of this kind is standard output's.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn classify(error: &anyhow::Error) -> (u8, String) {
    error.chain().find_map(known).unwrap_or((FAILED.0, FAILED.1.to_owned()))
}

/// A daemon that answers, even with a no to the very first call, isn't unreachable.
fn known(error: &(dyn Error + 'static)) -> Option<(u8, String)> {
    let (exit, code) = if error.is::<Usage>() {
        USAGE
    } else if error.is::<Mismatch>() || error.is::<Defective>() || error.is::<Lost>() {
        MISMATCH
    } else if let Some(Unwell(tally)) = error.downcast_ref() {
        if tally.fail > 0 { FAILURES } else { WARNINGS }
    } else if error.is::<NotAllowed>() {
        (FAILED.0, "not_allowed")
    } else if error.is::<LeaseOver>() || matches!(error.downcast_ref(), Some(CallFailed::HoldingLost(_))) {
        LEASE_OVER
    } else if let Some(CallFailed::Answered(answer)) = error.downcast_ref() {
        return Some((FAILED.0, answer.code()));
    } else if matches!(error.downcast_ref(), Some(CallFailed::Lost(_))) || error.is::<ConnectionError>() {
        UNREACHABLE
    } else {
        match error.downcast_ref()? {
            ConnectError::Greeting { .. } => return None,
            ConnectError::WrongVersion { .. } => (FAILED.0, "wrong_version"),
            _ => UNREACHABLE,
        }
    };
    Some((exit, code.to_owned()))
}

/// Without control characters: parts of a message come from elsewhere, and a terminal obeys what it is shown.
fn printable(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}
