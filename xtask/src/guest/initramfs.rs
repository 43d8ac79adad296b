//! The initramfs: busybox, the few modules that reach the root, and `tests/vm/guest/init`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

use super::{image, modules};
use crate::project;

/// Modules for a root on virtio disks below an overlay; what they need is added. Older kernels' ext4 asks for a `crc32c` by
/// name only.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "overlay"];

/// Makes the initramfs from the busybox in `root` and the modules in `kernel_root`.
///
/// # Errors
/// When a file can't be read or written.
pub(super) fn make(root: &Path, kernel_root: &Path, to: &Path) -> Result<()> {
    let release = image::kernel_release(kernel_root)?;
    let folder = kernel_root.join(modules::FOLDER).join(release);
    let dep = folder.join("modules.dep");
    let dep = fs::read_to_string(&dep).with_context(|| format!("cannot read {}", dep.display()))?;

    let mut archive = Archive { to: BufWriter::new(File::create(to)?), inode: 0 };
    for directory in ["bin", "dev", "proc", "sys", "modules"] {
        archive.add(directory, ModeFileType::Directory, 0o755, &[])?;
    }
    archive.add_file("bin/busybox", 0o755, &root.join("usr/bin/busybox"))?;
    archive.add_file("init", 0o755, &project::root().join("tests/vm/guest/init"))?;
    // Numbered, so that the order of their names is the order to load them in.
    for (number, file) in modules::load_order(&dep, MODULES).iter().enumerate() {
        archive.add_file(&format!("modules/{number:02}.ko"), 0o644, &folder.join(file))?;
    }
    let mut to = trailer(archive.to)?;
    to.flush()?;
    Ok(())
}

struct Archive {
    to: BufWriter<File>,
    inode: u32,
}

impl Archive {
    fn add_file(&mut self, name: &str, mode: u32, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.add(name, ModeFileType::Regular, mode, &content)
    }

    fn add(&mut self, name: &str, kind: ModeFileType, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size =
            u32::try_from(content.len()).with_context(|| format!("{name} is too large for an initramfs"))?;
        let entry = Builder::new(name).ino(self.inode).nlink(1).mode(mode).set_mode_file_type(kind);
        let mut entry = entry.write(&mut self.to, size);
        entry.write_all(content)?;
        entry.finish()?;
        Ok(())
    }
}
