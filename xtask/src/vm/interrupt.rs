//! Ctrl-C and termination signals while a guest runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static RECEIVED: AtomicBool = AtomicBool::new(false);
static WATCHED: OnceLock<()> = OnceLock::new();

/// From now on, signals that ask to end are noted instead of ending xtask at once.
///
/// # Errors
/// When the handler can't be installed.
pub(crate) fn watch() -> Result<()> {
    if WATCHED.set(()).is_ok() {
        ctrlc::set_handler(|| RECEIVED.store(true, Ordering::Relaxed)).context("cannot handle Ctrl-C")?;
    }
    Ok(())
}

/// Tells whether such a signal came.
pub(crate) fn received() -> bool {
    RECEIVED.load(Ordering::Relaxed)
}
