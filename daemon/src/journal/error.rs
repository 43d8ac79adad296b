//! What can go wrong, by operation.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{MAX_FILE, line::MAX_JSON};

/// Why a journal can't be had at all. What is wrong with a file that is there isn't among it: that is set aside.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Somebody has it open.
    #[error(
        "another peermemd keeps its leases in {}: stop it (`systemctl stop peermemd`), or give this one another journal",
        path.display()
    )]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// A step failed.
    #[error("can't {step} {}", path.display())]
    Io {
        /// The step.
        step: &'static str,
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The first line can't be written.
    #[error("can't begin the journal {}", path.display())]
    Begin {
        /// The journal.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
}

impl OpenError {
    /// What makes an error of the reason why `step` failed at `path`.
    pub(super) fn at(step: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { step, path: path.to_owned(), source }
    }
}

/// Why records can't be remembered. The journal is as it was before.
#[derive(Debug, Error)]
pub enum WriteError {
    /// A record is longer than the journal would read back.
    #[error("a record of {bytes} bytes is longer than the journal takes: {MAX_JSON} bytes")]
    RecordTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The file would grow larger than the journal would read back. Rewriting it helps, unless the records in use are that
    /// many.
    #[error("the journal would grow over {MAX_FILE} bytes")]
    FileTooLong,
    /// A record has no JSON.
    #[error("a record can't be written as JSON")]
    Encode(#[from] serde_json::Error),
    /// The file system refused, because it is full for example.
    #[error("can't write the journal")]
    Io(#[from] io::Error),
}
