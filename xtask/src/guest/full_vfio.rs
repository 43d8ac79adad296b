//! VFIO and iommufd with the options that Debian leaves off, from the source of the guest's own kernel. What is built, and
//! how: `tests/vm/vfio/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache;
use crate::command::run_logged;
use crate::progress::Step;
use crate::project;

use super::sources::Sources;
use super::{image, overlay};

/// What of the kernel's source is unpacked: the two drivers, the headers that iommufd shares with the IOMMUs' drivers, and
/// what Debian's kernel has only in part.
const PARTS: &[&str] = &["drivers/vfio", "drivers/iommu/iommufd", "drivers/iommu/*.h", "lib/interval_tree.c"];

/// Puts the modules where `modprobe` prefers them, uncompressed as all others are. It learns of them by `depmod`, which
/// kbuild calls only where the kernel's symbols are at hand.
const BUILD: &str = "make -C \"/usr/lib/modules/$1/build\" M=/mnt INSTALL_MOD_DIR=updates CONFIG_MODULE_COMPRESS_ALL= \
                     modules modules_install; depmod \"$1\"";

/// Builds the modules, unless the same were built for the same guest before. Returns a tree that lies over the guest's root.
///
/// # Errors
/// When the source can't be unpacked or built, with the output.
pub(super) fn build(guest: &Path) -> Result<PathBuf> {
    let makefiles = Sources::read(&project::root().join("tests/vm/vfio"))?;
    let built = guest.join("vfio").join(cache::key(&(&makefiles, PARTS, BUILD)));
    if !built.is_dir() {
        let root = guest.join(image::ROOT);
        let release = image::kernel_release(&root)?;
        let step = Step::new(format!("VFIO and iommufd of Linux {release}"));
        let unfinished = built.with_extension("unfinished");
        cache::remove_tree(&unfinished)?;
        let sources = unfinished.join("mnt");
        unpack(&guest.join(image::SOURCE), &sources, &step)?;
        makefiles.copy_to(&sources)?;
        overlay::run(&["sh", "-euc", BUILD, "sh", &release], &root, &unfinished, &step, "vfio")?;
        cache::remove_tree(&sources)?;
        fs::rename(&unfinished, &built)?;
        step.done();
    }
    Ok(built)
}

fn unpack(archive: &Path, to: &Path, step: &Step) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(to).args(["--strip-components=1", "--wildcards", "-xf"]).arg(archive);
    tar.args(PARTS.iter().map(|part| format!("linux-source-*/{part}")));
    run_logged(&mut tar, step, &project::log("kernel-source"))
}
