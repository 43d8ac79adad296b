//! What `peermemctl` prints for its package: manual pages and shell completions.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Product;
use crate::command::output_of;

const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// Writes them beside the programs.
///
/// # Errors
/// When `peermemctl` fails.
pub(super) fn write(product: &Product) -> Result<()> {
    let peermemctl = || Command::new(product.program("peermemctl"));
    let man = product.fresh_folder("man")?;
    output_of(peermemctl().args(["man", "--all"]).arg(&man))?;
    output_of(Command::new("gzip").args(["--best", "--no-name", "--recursive"]).arg(&man))?;
    let completions = product.fresh_folder("completions")?;
    for shell in SHELLS {
        let script = output_of(peermemctl().args(["completions", shell]))?;
        let file = completions.join(format!("peermemctl.{shell}"));
        fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
