//! Bounded reads of single files and directories.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use super::SysfsError;
use crate::text::hex;

/// More than any sysfs attribute of interest is long, but for `resource`.
const ATTRIBUTE_BYTES: u64 = 64;

/// `None` when the device went meanwhile.
pub(super) fn unless_absent<T>(result: Result<T, SysfsError>) -> Result<Option<T>, SysfsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory; none when there is no such directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, SysfsError> {
    let io = |source| SysfsError::Io { path: directory.to_owned(), source };
    let Some(entries) = unless_absent(fs::read_dir(directory).map_err(io))? else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry.map_err(io)?.file_name().to_string_lossy().into_owned())).collect()
}

/// The names in a directory that are what is looked for, in order; none when it can't be read.
pub(super) fn parsed_names<T: std::str::FromStr + Ord>(directory: &Path) -> Vec<T> {
    let all = names(directory).unwrap_or_default();
    let mut parsed: Vec<T> = all.iter().filter_map(|name| name.parse().ok()).collect();
    parsed.sort();
    parsed
}

pub(super) fn canonical(link: &Path) -> Result<PathBuf, SysfsError> {
    fs::canonicalize(link).map_err(|source| SysfsError::Io { path: link.to_owned(), source })
}

/// The last component of the path that a link leads to, as what it should be; `None` without such a link.
pub(super) fn target<T: std::str::FromStr>(link: &Path) -> Option<T> {
    fs::read_link(link).ok()?.file_name()?.to_str()?.parse().ok()
}

/// An attribute that the verdict depends on: its text, without the newline at its end, as what it should be.
pub(super) fn attribute<T>(
    path: &Path,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, SysfsError> {
    let bytes = read_bytes(path, ATTRIBUTE_BYTES)?;
    let found = String::from_utf8_lossy(&bytes);
    parse(found.trim_end()).ok_or_else(|| SysfsError::content(path, expected, &found))
}

/// An attribute that the verdict doesn't depend on: `None` when it is missing, can't be read or says something else.
pub(super) fn detail<T: std::str::FromStr>(path: &Path) -> Option<T> {
    attribute(path, "", |text| text.parse().ok()).ok()
}

/// A vendor's or device's number, as sysfs writes it: `0x8086`.
pub(super) fn number(path: &Path) -> Result<u16, SysfsError> {
    attribute(path, "a 16-bit number such as 0x8086", |text| {
        u16::try_from(hex(text.strip_prefix("0x")?, 4..=4)?).ok()
    })
}

/// The file's first bytes, at most `limit`.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, SysfsError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| SysfsError::Io { path: path.to_owned(), source })
}
