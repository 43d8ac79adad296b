//! Waiting for what sends no event, never for ever.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

/// Looks again and again until it is so.
pub(crate) fn until(what: &str, patience: Duration, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "waited {patience:?} in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
