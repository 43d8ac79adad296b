//! Commands run in a root that stays as it is: what they change goes to a tree of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::run_logged;
use crate::progress::Step;
use crate::project;

/// In a mount namespace of its own, whose mounts go when it ends, however it ends: `root` below, all changes in `tree`.
const SCRIPT: &str = r#"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
mount -t proc proc "$4/proc"
merged=$4
shift 4
exec chroot "$merged" "$@"
"#;

/// Runs `command` in `root`; what it changes goes to `tree`. The log is named for the command's purpose.
///
/// # Errors
/// When the command fails, with its output.
pub(super) fn run(command: &[&str], root: &Path, tree: &Path, step: &Step, log: &str) -> Result<()> {
    let folder = tempfile::tempdir_in(tree.parent().unwrap_or(tree))?;
    let [work, merged] = ["work", "merged"].map(|name| folder.path().join(name));
    for path in [tree, &work, &merged] {
        fs::create_dir_all(path)?;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-euc", SCRIPT, "sh"]).args([root, tree, &work, &merged]).args(command);
    run_logged(&mut unshare, step, &project::log(log))
}
