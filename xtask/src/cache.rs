//! What is expensive to make, kept outside the checkout: `${XDG_CACHE_HOME:-~/.cache}/peermem/`.
//!
//! An entry is a folder `KIND-KEY`, the key being a hash of all that it is made from. It is made
//! under a temporary name and renamed when complete, so an entry that exists is whole. One lock
//! covers the making; each user of an entry holds a shared lock on it, so none vanishes in use.

use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::progress::say;

/// How long an outdated entry is kept after its last use.
const KEEP_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// The cache folder, locked against other runs that make entries.
pub(crate) struct Cache {
    folder: PathBuf,
    _lock: File,
}

/// A complete entry, which stays as long as this value lives.
pub(crate) struct Entry {
    /// The entry's folder.
    pub path: PathBuf,
    _in_use: File,
}

/// A key for whatever is made from `ingredients`.
pub(crate) fn key(ingredients: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    ingredients.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

impl Cache {
    /// Opens the cache, waiting for another run's setup if there is one.
    ///
    /// # Errors
    /// When there is no home folder or the cache can't be written.
    pub(crate) fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => std::env::home_dir().context("neither XDG_CACHE_HOME nor HOME is set")?.join(".cache"),
        };
        Self::open_in(base.join("peermem"))
    }

    fn open_in(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the cache {}", folder.display()))?;
        let lock = File::create(folder.join("lock")).context("cannot make the cache's lock file")?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            say("waiting for another xtask that sets up the same cache");
            lock.lock()?;
        }
        Ok(Cache { folder, _lock: lock })
    }

    /// The entry `kind` made from what `key` stands for; `make` fills an empty folder when there is none.
    ///
    /// Entries of the same kind and another key are removed when nobody has used them for a day: two
    /// checkouts may be worked on in turn.
    ///
    /// # Errors
    /// Those of `make`, and of the file system.
    pub(crate) fn entry(
        &self,
        kind: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Entry> {
        self.remove_others(kind, key)?;
        let path = self.folder.join(format!("{kind}-{key}"));
        if !path.is_dir() {
            let unfinished = self.folder.join(format!("unfinished-{kind}"));
            remove_tree(&unfinished)?;
            fs::create_dir(&unfinished)?;
            make(&unfinished)?;
            fs::rename(&unfinished, &path)?;
        }
        let in_use = File::open(&path)?;
        in_use.lock_shared()?;
        in_use.set_modified(SystemTime::now())?;
        Ok(Entry { path, _in_use: in_use })
    }

    /// A folder of the cache that needs no key, since its content says what it is.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    fn remove_others(&self, kind: &str, key: &str) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(other) = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')) else {
                continue;
            };
            let folder = File::open(&path)?;
            let unused = folder.metadata()?.modified()?.elapsed().unwrap_or_default();
            if other != key && unused > KEEP_UNUSED && folder.try_lock().is_ok() {
                say(&format!("removing the cache's outdated {name}"));
                remove_tree(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes a folder with all in it, if there is one.
///
/// # Errors
/// When something in it can't be removed.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_made_once_and_replaced_by_its_successor() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open_in(home.path().join("peermem")).unwrap();
        let write = |folder: &Path| Ok(fs::write(folder.join("a"), "1")?);
        let first = cache.entry("guest", "1", write).unwrap();
        assert_eq!(fs::read_to_string(first.path.join("a")).unwrap(), "1");
        cache.entry("guest", "1", |_| panic!("made twice")).unwrap();

        let long_ago = SystemTime::now() - 2 * KEEP_UNUSED;
        let second = cache.entry("guest", "2", write).unwrap();
        assert!(first.path.exists(), "an entry of today stays");
        File::open(&first.path).unwrap().set_modified(long_ago).unwrap();
        cache.entry("guest", "2", write).unwrap();
        assert!(first.path.exists(), "an entry in use stays");
        let old = first.path.clone();
        drop(first);
        // A process that another test is starting holds copies of this one's locks until it runs.
        for _ in 0..100 {
            cache.entry("guest", "2", write).unwrap();
            if !old.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!old.exists() && second.path.exists());
    }

    #[test]
    fn a_failed_entry_leaves_none() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open_in(home.path().to_owned()).unwrap();
        assert!(cache.entry("guest", "1", |_| anyhow::bail!("no")).is_err());
        assert!(!home.path().join("guest-1").exists());
    }
}
