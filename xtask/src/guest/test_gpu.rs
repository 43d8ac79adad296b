//! The test GPU: a driver that lets a display adapter's BAR play GPU memory, and the preload
//! library that gives soft-RoCE its `ibv_reg_dmabuf_mr`. Sources: `tests/testgpu/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::command::run_logged;
use crate::progress::Step;
use crate::project;

use super::sources::Sources;
use super::{image, overlay};

/// Where the sources are while they are built, below the guest's root.
const FOLDER: &str = "mnt";

/// The built files.
pub(crate) struct TestGpu {
    /// The kernel module, for the guest's kernel only.
    pub module: PathBuf,
    /// A second one: an importer of dma-bufs.
    pub importer: PathBuf,
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
        let sources = Sources::read(&project::root().join("tests/testgpu"))
            .context("the guest's test GPU is built from sources that are missing")?;
        let built = guest.join("testgpu").join(cache::key(&sources));
        if !built.is_dir() {
            let step = Step::new("Test GPU: kernel module and preload library");
            let unfinished = built.with_extension("unfinished");
            cache::remove_tree(&unfinished)?;
            sources.copy_to(&unfinished.join(FOLDER))?;
            build_module(&guest.join(image::ROOT), &unfinished, &step)?;
            build_user_space(&unfinished.join(FOLDER), &step)?;
            fs::rename(&unfinished, &built)?;
            step.done();
        }
        let built = built.join(FOLDER);
        Ok(TestGpu {
            module: built.join("kernel/peermem_testgpu.ko"),
            importer: built.join("kernel/peermem_testimporter.ko"),
            preload: built.join("librxe_dmabuf.so"),
            selftest: built.join("selftest/selftest"),
        })
    }
}

/// Builds in the guest's root, with its compiler and headers.
fn build_module(root: &Path, tree: &Path, step: &Step) -> Result<()> {
    const MAKE: &str = "exec make -C \"/usr/lib/modules/$1/build\" M=/mnt/kernel modules";
    let release = image::kernel_release(root)?;
    overlay::run(&["sh", "-euc", MAKE, "sh", &release], root, tree, step, "testgpu-module")
}

fn build_user_space(sources: &Path, step: &Step) -> Result<()> {
    run_logged(Command::new("make").arg("-C").arg(sources), step, &project::log("testgpu-user-space"))
}
