//! The files: the journal, its lock, and the new one that takes its place.

use std::{
    borrow::Borrow,
    fs::{self, File},
    io::{self, BufReader, Write},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    MAX_FILE, OpenError, Unusable, WriteError,
    header::{BootId, Header},
    line, read,
};

/// How much is read or written at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Sees to it that of two daemons only one has the journal.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = path.with_added_extension("lock");
    let lock = open(&lock_path, OFlags::CREATE)
        .map_err(|errno| OpenError::at("open the lock", &lock_path)(errno.into()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(errno) => Err(OpenError::at("lock", &lock_path)(errno.into())),
    }
}

/// Opens for reading and writing, without following a symbolic link or waiting at a pipe. What it creates is the owner's
/// alone.
fn open(path: &Path, flags: OFlags) -> Result<File, Errno> {
    let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

pub(super) type Found<R> = (File, read::Content<R>);

/// The journal that is at `path`, unless there is none or one of an earlier boot.
pub(super) fn existing<R: DeserializeOwned>(
    path: &Path,
    boot_id: &BootId,
) -> Result<Option<Found<R>>, Unusable> {
    let file = match open(path, OFlags::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(Unusable::NotAFile),
        Err(errno) => return Err(Unusable::Unreadable(errno.into())),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    if metadata.len() > MAX_FILE {
        return Err(Unusable::TooLarge { bytes: metadata.len() });
    }
    let content = read::read(BufReader::with_capacity(CHUNK, &file), boot_id)?;
    Ok(content.map(|content| (file, content)))
}

/// Puts a journal of `records` at `path`, in the place of what may be there, and returns it with its length.
pub(super) fn write_afresh<R: Serialize>(
    path: &Path,
    header: &Header,
    records: impl IntoIterator<Item: Borrow<R>>,
) -> Result<(File, u64), WriteError> {
    let new_path = path.with_added_extension("new");
    match fs::remove_file(&new_path) {
        // Left by one that was killed here.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let file = open(&new_path, OFlags::CREATE | OFlags::EXCL).map_err(io::Error::from)?;
    let placed = write_all(&file, header, records).and_then(|length| {
        fs::rename(&new_path, path)?;
        Ok(length)
    });
    if placed.is_err() {
        // It may lie there until the next time.
        let _ = fs::remove_file(&new_path);
    }
    placed.map(|length| (file, length))
}

/// Writes a whole journal into an empty file and returns its length.
fn write_all<R: Serialize>(
    mut file: &File,
    header: &Header,
    records: impl IntoIterator<Item: Borrow<R>>,
) -> Result<u64, WriteError> {
    let mut length = 0;
    let mut write = |lines: &mut Vec<u8>| {
        length += lines.len() as u64;
        if length > MAX_FILE {
            return Err(WriteError::FileTooLong);
        }
        file.write_all(lines)?;
        lines.clear();
        Ok(length)
    };
    let mut lines = Vec::with_capacity(CHUNK);
    line::encode(header, &mut lines)?;
    for record in records {
        line::encode(record.borrow(), &mut lines)?;
        if lines.len() >= CHUNK {
            write(&mut lines)?;
        }
    }
    write(&mut lines)
}
