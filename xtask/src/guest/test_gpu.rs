//! The test GPU: a driver that lets a display adapter's BAR play GPU memory, and the preload
//! library that gives soft-RoCE its `ibv_reg_dmabuf_mr`. Sources: `tests/testgpu/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::command::run_logged;
use crate::progress::Step;
use crate::project;

use super::image;

/// The built files.
pub(crate) struct TestGpu {
    /// The kernel module, for the guest's kernel only.
    pub module: PathBuf,
    /// The preload library.
    pub preload: PathBuf,
    /// The test program of the two.
    pub selftest: PathBuf,
}

impl TestGpu {
    /// Builds all, unless the same sources were built for the same guest before.
    ///
    /// # Errors
    /// When the sources are missing or a compiler fails, with its output.
    pub(super) fn build(guest: &Path) -> Result<Self> {
        let sources = project::root().join("tests/testgpu");
        let files =
            files_below(&sources).context("the guest's test GPU is built from sources that are missing")?;
        let built = guest.join("testgpu").join(cache::key(&files));
        if !built.is_dir() {
            let step = Step::new("Test GPU: kernel module and preload library");
            let unfinished = built.with_extension("unfinished");
            cache::remove_tree(&unfinished)?;
            copy_all(&sources, &files, &unfinished)?;
            build_module(&guest.join(image::ROOT), &unfinished, &step)?;
            build_user_space(&unfinished, &step)?;
            fs::rename(&unfinished, &built)?;
            step.done();
        }
        Ok(TestGpu {
            module: built.join("kernel/peermem_testgpu.ko"),
            preload: built.join("librxe_dmabuf.so"),
            selftest: built.join("selftest/selftest"),
        })
    }
}

/// Builds in the guest's root, with its compiler and headers. The mounts live in a namespace of
/// their own, so they end with the build, however it ends.
fn build_module(root: &Path, sources: &Path, step: &Step) -> Result<()> {
    const SCRIPT: &str = "mount --bind \"$2\" \"$1/mnt\"; mount -t proc proc \"$1/proc\"; \
                          exec chroot \"$1\" make -C \"/usr/lib/modules/$3/build\" M=/mnt/kernel modules";
    let release = image::kernel_release(root)?;
    let mut make = Command::new("unshare");
    make.args(["--mount", "sh", "-ec", SCRIPT, "sh"]).arg(root).arg(sources).arg(release);
    run_logged(&mut make, step, &project::log("testgpu-module"))
}

fn build_user_space(sources: &Path, step: &Step) -> Result<()> {
    run_logged(Command::new("make").arg("-C").arg(sources), step, &project::log("testgpu-user-space"))
}

/// Every file below `folder` with its content.
fn files_below(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.insert(entry.path(), fs::read(entry.path())?);
            }
        }
    }
    Ok(files)
}

fn copy_all(from: &Path, files: &BTreeMap<PathBuf, Vec<u8>>, to: &Path) -> Result<()> {
    for (path, content) in files {
        let path = to.join(path.strip_prefix(from)?);
        fs::create_dir_all(path.parent().unwrap_or(to))?;
        fs::write(path, content)?;
    }
    Ok(())
}
