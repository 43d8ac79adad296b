//! Bounded reads of small files.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use crate::facts::{Seen, Unseen};

/// The file's text, at most `limit` bytes of it, without white space around.
pub(crate) fn text(path: &Path, limit: u64) -> Seen<String> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().map_err(|error: std::io::Error| Unseen(format!("{} can't be read: {error}", path.display())))
}

/// A number in a file of its own.
pub(super) fn number(path: &Path) -> Option<u64> {
    text(path, 64).ok()?.parse().ok()
}

/// The names in a folder, in order; none where it can't be listed.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
