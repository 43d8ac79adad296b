//! A folder of the checkout from which something is built outside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every file below a folder with its content; hashes to what is made from it.
#[derive(Hash)]
pub(super) struct Sources {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Sources {
    /// Reads all files below `folder`.
    ///
    /// # Errors
    /// When the folder or a file in it can't be read.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(below) = folders.pop() {
            let entries = fs::read_dir(&below).with_context(|| format!("cannot list {}", below.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.strip_prefix(folder)?.to_owned(), fs::read(&path)?);
                }
            }
        }
        Ok(Sources { files })
    }

    /// Writes the files below `to`.
    ///
    /// # Errors
    /// When one can't be written.
    pub(super) fn copy_to(&self, to: &Path) -> Result<()> {
        for (path, content) in &self.files {
            let path = to.join(path);
            fs::create_dir_all(path.parent().unwrap_or(to))?;
            fs::write(path, content)?;
        }
        Ok(())
    }
}
