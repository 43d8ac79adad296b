//! The test GPU: a driver that lets a display adapter's BAR play GPU memory, and the preload
//! library that gives soft-RoCE its `ibv_reg_dmabuf_mr`. Sources: `tests/testgpu/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

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
}

impl TestGpu {
    /// Builds both, unless the same sources were built for the same guest before.
    ///
    /// # Errors
    /// When a source is missing or a compiler fails, with its output.
    pub(super) fn build(guest: &Path) -> Result<Self> {
        let sources = project::root().join("tests/testgpu");
        let kernel = sources.join("kernel");
        let preload = sources.join("preload/rxe_dmabuf.c");
        let files = files_below(&sources).context("the test GPU's sources can't be read")?;
        if !kernel.is_dir() || !files.contains_key(&preload) {
            bail!(
                "{} or {} is missing: the guest's test GPU is built from them",
                kernel.display(),
                preload.display()
            );
        }
        let built = guest.join("testgpu").join(cache::key(&files));
        let result =
            TestGpu { module: built.join("peermem_testgpu.ko"), preload: built.join("librxe_dmabuf.so") };
        if !built.is_dir() {
            let step = Step::new("Test GPU: kernel module and preload library");
            let unfinished = built.with_extension("unfinished");
            // Left by a build that failed; a fresh folder otherwise.
            let _ = fs::remove_dir_all(&unfinished);
            copy_all(&sources, &files, &unfinished)?;
            build_module(&guest.join(image::ROOT), &unfinished, &step)?;
            build_preload(&unfinished, &step)?;
            fs::rename(unfinished.join("kernel/peermem_testgpu.ko"), unfinished.join("peermem_testgpu.ko"))
                .context("the kernel build made no peermem_testgpu.ko")?;
            fs::rename(&unfinished, &built)?;
            step.done();
        }
        Ok(result)
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

fn build_preload(sources: &Path, step: &Step) -> Result<()> {
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(sources.join("librxe_dmabuf.so"));
    cc.arg(sources.join("preload/rxe_dmabuf.c"));
    run_logged(&mut cc, step, &project::log("testgpu-preload"))
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
