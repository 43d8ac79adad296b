//! The guest kernel's modules: which need which, and their decompression.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::run_logged;
use crate::progress::Step;
use crate::project;

/// The folder of all kernels' modules, below the root.
pub(super) const FOLDER: &str = "usr/lib/modules";

/// Decompresses the modules in `root`, so that neither boot nor `modprobe` does it under emulation.
///
/// # Errors
/// When `xz` or `depmod` fails, with its output.
pub(super) fn decompress(root: &Path, release: &str, step: &Step) -> Result<()> {
    let folder = root.join(FOLDER).join(release);
    let mut xz = Command::new("sh");
    let script = "find \"$1\" -name '*.ko.xz' -print0 | xargs -0 -P \"$(nproc)\" -n 64 xz --decompress";
    xz.args(["-c", script, "sh"]).arg(&folder);
    run_logged(&mut xz, step, &project::log("modules"))?;
    run_logged(Command::new("chroot").arg(root).args(["depmod", release]), step, &project::log("depmod"))
}

/// The files of `names` and all they need, in the order in which they load.
///
/// `modules_dep` is the text of modules.dep (depmod(8)): `FILE: FILE...`, each line complete, what
/// loads first coming last. A name that isn't there is built into the kernel.
pub(super) fn load_order(modules_dep: &str, names: &[&str]) -> Vec<PathBuf> {
    let mut order: Vec<PathBuf> = Vec::new();
    for name in names {
        let line = modules_dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(file, _)| module_name(file) == *name);
        let Some((file, needs)) = line else { continue };
        for file in needs.split_whitespace().rev().chain([file]) {
            let file = PathBuf::from(file);
            if !order.contains(&file) {
                order.push(file);
            }
        }
    }
    order
}

fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_loads_first_and_once() {
        let dep = "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2.ko kernel/fs/mbcache.ko\n\
                   kernel/fs/jbd2.ko:\n\
                   kernel/net/9p/9pnet-virtio.ko: kernel/fs/mbcache.ko\n";
        let order = load_order(dep, &["ext4", "9pnet_virtio", "virtio_pci"]);
        let expected =
            ["fs/mbcache.ko", "fs/jbd2.ko", "lib/crc16.ko", "fs/ext4/ext4.ko", "net/9p/9pnet-virtio.ko"];
        assert_eq!(order, expected.map(|file| PathBuf::from("kernel").join(file)));
    }
}
