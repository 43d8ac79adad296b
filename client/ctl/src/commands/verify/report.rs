//! The results, for people and for programs.

use anyhow::Result;
use peermem::{
    proto::{ByteLen, Method, Path, RegionName},
    rdma::Operation,
};
use serde::{Deserialize, Serialize};

use super::{bytes::Wrong, talk::Introduction};
use crate::{
    failure::Mismatch,
    output::{Output, memory, paths},
};

/// One transfer and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct Transfer {
    pub(super) operation: OperationName,
    pub(super) bytes: u64,
    /// Absent when every byte was right.
    pub(super) wrong: Option<Wrong>,
}

/// [`Operation`], seen from the connecting end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands) enum OperationName {
    Write,
    Read,
}

impl From<Operation> for OperationName {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Write => Self::Write,
            Operation::Read => Self::Read,
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Verification<'a> {
    here: Side<'a>,
    there: Side<'a>,
    transfers: &'a [Transfer],
    verified: bool,
}

#[derive(Debug, Serialize)]
struct Side<'a> {
    region: &'a RegionName,
    method: Method,
    paths: &'a [Path],
    emulated: bool,
    length: ByteLen,
}

impl<'a> From<&'a Introduction> for Side<'a> {
    fn from(end: &'a Introduction) -> Self {
        let Introduction { region, method, paths, emulated, length, remote: _ } = end;
        let (method, emulated, length) = (*method, *emulated, *length);
        Self { region, method, paths, emulated, length }
    }
}

/// Prints them.
///
/// # Errors
/// [`Mismatch`] when a byte was wrong.
pub(super) fn report(
    output: &Output,
    ours: &Introduction,
    theirs: &Introduction,
    transfers: Vec<Transfer>,
) -> Result<()> {
    let wrong = transfers.iter().filter(|transfer| transfer.wrong.is_some()).count();
    if output.is_json() {
        let verified = wrong == 0;
        output.json(&Verification {
            here: ours.into(),
            there: theirs.into(),
            transfers: &transfers,
            verified,
        })?;
    } else {
        output.fields(&[("here", describe(ours)), ("there", describe(theirs))])?;
        output.table(["operation", "bytes", "verified"], transfers.iter().map(row))?;
    }
    if wrong > 0 {
        return Err(Mismatch { wrong, all: transfers.len() }.into());
    }
    Ok(())
}

fn describe(end: &Introduction) -> String {
    let Introduction { region, method, paths: ways, emulated, length, .. } = end;
    format!("{region} ({length} of {} memory, {method}, {})", memory(*emulated), paths(ways))
}

fn row(transfer: &Transfer) -> [String; 3] {
    let operation = match transfer.operation {
        OperationName::Write => "write",
        OperationName::Read => "read",
    };
    let verified = match transfer.wrong {
        None => "yes".to_owned(),
        Some(Wrong { first, count }) => format!("NO: {count} bytes wrong, the first at {first:#x}"),
    };
    [operation.to_owned(), transfer.bytes.to_string(), verified]
}
