//! The pool of a real device: its `p2pmem` folder in sysfs.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::Arc,
};

use peermem_proto::ByteLen;
use rustix::io::Errno;

use super::pool::{Memory, Pool, PoolError};
use crate::sys::Piece;

/// A device's pool, by open files: a device that is plugged in again under the same address is another one, and isn't
/// taken for this one.
#[derive(Debug)]
pub struct Device {
    allocate: File,
    available: File,
    zeroes: Arc<File>,
}

impl Device {
    /// Opens the pool behind a `p2pmem` folder.
    ///
    /// # Errors
    /// [`PoolError::Open`].
    pub fn open(folder: &Path) -> Result<Self, PoolError> {
        let open = |path: &Path, write| {
            let file = File::options().read(true).write(write).open(path);
            file.map_err(|source| PoolError::Open { path: path.to_owned(), source })
        };
        Ok(Self {
            allocate: open(&folder.join("allocate"), true)?,
            available: open(&folder.join("available"), false)?,
            zeroes: Arc::new(open(Path::new("/dev/zero"), false)?),
        })
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> PoolError {
    move |source| match Errno::from_io_error(&source) {
        // In this order: of sysfs and of the allocator; of memory whose device was unplugged.
        Some(Errno::NODEV | Errno::FAULT) => PoolError::Gone(source),
        _ => PoolError::Failed { operation, source },
    }
}

impl Pool for Device {
    type Memory = Piece;

    fn available(&self) -> Result<ByteLen, PoolError> {
        // Longer than any decimal u64 and its newline. sysfs writes the attribute anew for every read at offset 0.
        let mut text = [0; 32];
        let length = self.available.read_at(&mut text, 0).map_err(failed("count"))?;
        let number = str::from_utf8(&text[..length]).ok().and_then(|text| text.trim().parse().ok());
        number.map(ByteLen::new).ok_or_else(|| failed("count")(io::ErrorKind::InvalidData.into()))
    }

    fn take(&self, length: ByteLen) -> Result<Option<Piece>, PoolError> {
        match Piece::map(self.allocate.as_fd(), length, Arc::clone(&self.zeroes)) {
            Ok(piece) => Ok(Some(piece)),
            Err(Errno::NOMEM) => Ok(None),
            Err(errno) => Err(failed("map")(errno.into())),
        }
    }
}

impl Memory for Piece {
    fn length(&self) -> ByteLen {
        self.length()
    }

    fn split_off(&mut self, length: ByteLen) -> Option<Self> {
        self.split_off(length)
    }

    fn zero(&mut self) -> Result<(), PoolError> {
        self.zero().map_err(|errno| failed("zero")(errno.into()))
    }
}
