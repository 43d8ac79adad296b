//! What must be remembered over a restart: a file to which the daemon appends a line for each thing that happens.
//!
//! ```text
//! 5d1a0c52 {"peermem_lease_journal":1,"boot_id":"...","instance":"..."}
//! 9b3c7e01 {...one record...}
//! ```
//!
//! Each line is the CRC-32 of its JSON, and the JSON. A batch of records is one `write(2)`, so that whoever is killed leaves
//! whole lines, and at most one torn line at the end. The file is rewritten now and then, when most of it is history.
//!
//! **Nothing here calls `fsync`.** The journal must survive the daemon, not the machine: what a killed process has written
//! is in the kernel's hands. When the machine goes down, every lease ends with the mappings behind it; a journal of an
//! earlier boot is replaced without a word.
//!
//! **Whatever the file holds, the daemon starts.** What doesn't count is set aside for people to look at, and
//! [`SetAside`] says what was lost.

use std::{
    borrow::Borrow,
    fs::File,
    io,
    marker::PhantomData,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

mod error;
mod file;
mod header;
mod line;
mod read;
mod set_aside;

pub use error::{OpenError, WriteError};
pub use header::{BootId, Instance};
pub use read::Unusable;
pub use set_aside::{JournalFault, SetAside};

use header::Header;

/// Where the journal is unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/peermemd/leases.journal";

/// The largest journal, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// A journal with less than this behind its last rewriting isn't worth another, in bytes.
const REWRITE_FROM: u64 = 1 << 20;

/// An open journal of records `R`.
#[derive(Debug)]
pub struct Journal<R> {
    path: PathBuf,
    file: File,
    header: Header,
    /// The bytes of whole lines. The file may be longer only where `overhangs`.
    length: u64,
    /// What `length` was after the last rewriting.
    rewritten: u64,
    /// Whether a failed write may have left something behind `length`.
    overhangs: bool,
    /// The lines of one batch.
    batch: Vec<u8>,
    /// Beside the journal, since rewriting replaces that file. The lock's file stays: removing it would let two daemons hold
    /// locks on two files of one name.
    _lock: File,
    _records: PhantomData<R>,
}

/// A journal, and what was in it.
#[derive(Debug)]
pub struct Opened<R> {
    /// To append to.
    pub journal: Journal<R>,
    /// What was written in this boot, in that order.
    pub records: Vec<R>,
    /// What doesn't count, for the log.
    pub set_aside: Option<SetAside>,
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens the journal at `path`, or begins one where there is none of this boot that can be used. Its folder must exist.
    ///
    /// # Errors
    /// [`OpenError`] when another process has it open, or no file can be written there.
    pub fn open(path: &Path, boot_id: BootId) -> Result<Opened<R>, OpenError> {
        let lock = file::lock(path)?;
        let (found, set_aside) = match file::existing(path, &boot_id) {
            Ok(found) => (found, None),
            Err(why) => (None, Some(SetAside::whole(path, why))),
        };
        let Some((file, content)) = found else {
            let begin = |source| OpenError::Begin { path: path.to_owned(), source };
            let header = Header::fresh(boot_id).map_err(|error| begin(error.into()))?;
            let (file, length) =
                file::write_afresh::<R>(path, &header, std::iter::empty::<R>()).map_err(begin)?;
            let journal = Self::new(path, file, header, length, lock);
            return Ok(Opened { journal, records: Vec::new(), set_aside });
        };
        let set_aside = (!content.torn.is_empty())
            .then(|| SetAside::piece(path, &content.torn, content.intact, content.records.len()));
        let mut journal = Self::new(path, file, content.header, content.intact, lock);
        journal.overhangs = set_aside.is_some();
        journal.cut_overhang().map_err(OpenError::at("cut off the torn end of", path))?;
        Ok(Opened { journal, records: content.records, set_aside })
    }

    fn new(path: &Path, file: File, header: Header, length: u64, lock: File) -> Self {
        Self {
            path: path.to_owned(),
            file,
            header,
            length,
            // How much of it is history isn't known: all of it may be.
            rewritten: 0,
            overhangs: false,
            batch: Vec::new(),
            _lock: lock,
            _records: PhantomData,
        }
    }

    /// Which lease table this is.
    pub fn instance(&self) -> Instance {
        self.header.instance
    }

    /// Remembers `records`, all or none, with one `write(2)`.
    ///
    /// # Errors
    /// [`WriteError`]; then none of them is remembered, and what they tell of must be refused.
    pub fn append(&mut self, records: &[R]) -> Result<(), WriteError> {
        self.batch.clear();
        for record in records {
            line::encode(record, &mut self.batch)?;
        }
        let length = self.length.saturating_add(self.batch.len() as u64);
        if length > MAX_FILE {
            return Err(WriteError::FileTooLong);
        }
        self.cut_overhang()?;
        if let Err(error) = self.file.write_all_at(&self.batch, self.length) {
            self.overhangs = true;
            // Where even this fails, the next batch must first succeed in it.
            let _ = self.cut_overhang();
            return Err(error.into());
        }
        self.length = length;
        Ok(())
    }

    /// Makes the file as long as its whole lines are: what was refused mustn't be read back.
    fn cut_overhang(&mut self) -> io::Result<()> {
        if self.overhangs {
            self.file.set_len(self.length)?;
            self.overhangs = false;
        }
        Ok(())
    }

    /// Replaces all that is remembered by `records`, at once: whoever is killed leaves the old file or the new one.
    ///
    /// # Errors
    /// [`WriteError`]; then the journal goes on as it was.
    pub fn rewrite(&mut self, records: impl IntoIterator<Item: Borrow<R>>) -> Result<(), WriteError> {
        (self.file, self.length) = file::write_afresh(&self.path, &self.header, records)?;
        self.rewritten = self.length;
        self.overhangs = false;
        Ok(())
    }

    /// How much was appended since the last rewriting, in bytes. After opening, that is the whole file.
    pub fn appended_bytes(&self) -> u64 {
        self.length - self.rewritten
    }

    /// Whether it is time to rewrite: when more was appended than a rewriting left, so that each appended byte pays for the
    /// copying of at most two, however many records are in use.
    pub fn is_due_for_rewrite(&self) -> bool {
        self.appended_bytes() > self.rewritten.max(REWRITE_FROM)
    }
}
