//! What can't be used is kept for people to look at, never overwritten, and never in the way.

use std::{
    error::Error,
    ffi::OsStr,
    fmt, fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Unusable;

/// How many files of a kind are kept: what goes wrong at every start mustn't fill the file system. The first ones tell the
/// most.
const KEPT: u32 = 16;

/// Something that was found in a journal's place and doesn't count. Its text is a sentence for the log.
#[derive(Debug)]
pub struct SetAside {
    /// The journal.
    pub path: PathBuf,
    /// What was wrong.
    pub fault: JournalFault,
    /// Where it is now. Where it couldn't be kept, it is gone.
    pub kept: io::Result<PathBuf>,
}

/// What was wrong with a journal.
#[derive(Debug)]
pub enum JournalFault {
    /// The end of the last line is missing or damaged; what is before it counts.
    Torn {
        /// Where that line starts, in bytes.
        offset: u64,
        /// How many bytes of it there are.
        bytes: usize,
        /// How many records are before it.
        records: usize,
    },
    /// Nothing in it counts, and a fresh journal was begun.
    Unusable(Unusable),
}

impl SetAside {
    /// Puts a copy of `piece`, the torn last line, beside the journal at `path`.
    pub(super) fn piece(path: &Path, piece: &[u8], offset: u64, records: usize) -> Self {
        let kept = first_free(path, "torn", |to| {
            let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(to)?;
            file.write_all(piece).inspect_err(|_| drop(fs::remove_file(to)))
        });
        let fault = JournalFault::Torn { offset, bytes: piece.len(), records };
        Self { path: path.to_owned(), fault, kept }
    }

    /// Moves what is at `path` out of the way.
    pub(super) fn whole(path: &Path, why: Unusable) -> Self {
        let kept = first_free(path, "set-aside", |to| {
            renameat_with(CWD, path, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
        });
        Self { path: path.to_owned(), fault: JournalFault::Unusable(why), kept }
    }
}

/// Does `put` with the first of `PATH.KIND-1`, `PATH.KIND-2`... that nothing has yet.
fn first_free(path: &Path, kind: &str, mut put: impl FnMut(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    for number in 1..=KEPT {
        let to = path.with_added_extension(format!("{kind}-{number}"));
        match put(&to) {
            Ok(()) => return Ok(to),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let name = path.file_name().unwrap_or(OsStr::new("")).display();
    Err(io::Error::other(format!(
        "{KEPT} files {name}.{kind}-N are there already; look at them and delete them"
    )))
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            JournalFault::Torn { offset, bytes, records } => write!(
                f,
                "the last line of {path} ({bytes} bytes at byte {offset}) is torn, as after a kill in the middle of a write: \
                 it doesn't count, the {records} records before it do. "
            )?,
            JournalFault::Unusable(why) => {
                write!(f, "{path} can't be used: {why}")?;
                if let Some(source) = why.source() {
                    write!(f, ": {source}")?;
                }
                write!(
                    f,
                    ". A fresh journal begins, and the leases in the old one are lost: their owners must map again. "
                )?;
            }
        }
        match &self.kept {
            Ok(kept) => {
                write!(f, "What was there is kept in {}; delete it when you have seen it", kept.display())
            }
            Err(error) => write!(f, "What was there couldn't be kept: {error}"),
        }
    }
}
