//! What a run adds to the guest's root: the product as a package would install it, the test
//! programs, and the files that make the root a guest of xtask.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::progress::Step;
use crate::project;
use crate::vm::Profile;

use super::{Guest, image};

/// Cargo packages whose programs the guest has.
const PACKAGES: &[&str] = &["peermemd", "peermemctl", "peermem-demo", "peermem-vm-agent"];

/// Installed programs: the name in cargo's folder, and where the guest has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("peermemd", "usr/bin/peermemd"),
    ("peermemctl", "usr/bin/peermemctl"),
    ("peermem-demo", "usr/libexec/peermem-tests/peermem-demo"),
    ("peermem-vm-agent", "usr/libexec/peermem-vm/agent"),
];

/// Where files of `systemd/` go, by the end of their names.
const SYSTEMD: &[(&str, &str)] = &[
    (".service", "usr/lib/systemd/system"),
    (".socket", "usr/lib/systemd/system"),
    (".sysusers.conf", "usr/lib/sysusers.d"),
    (".tmpfiles.conf", "usr/lib/tmpfiles.d"),
    (".rules", "usr/lib/udev/rules.d"),
    (".toml", "etc/peermemd"),
];

/// A folder that lies over the guest's root, for one run.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Builds the product and fills a tree in `folder` with it, for a guest of `profile`.
    ///
    /// # Errors
    /// When the build fails or a file can't be copied.
    pub(crate) fn build(folder: &Path, guest: &Guest, profile: &Profile) -> Result<Self> {
        let step = Step::new("Product and test programs for the guest");
        project::build_for_guest(PACKAGES, &step)?;
        let tree = Tree { root: folder.join("tree") };
        tree.install_product()?;
        tree.install_file(&guest.test_gpu.module, "usr/lib/peermem-tests/peermem_testgpu.ko", 0o644)?;
        tree.install_file(&guest.test_gpu.preload, "usr/lib/peermem-tests/librxe_dmabuf.so", 0o755)?;
        tree.install_file(&guest.test_gpu.selftest, "usr/libexec/peermem-tests/testgpu-selftest", 0o755)?;
        tree.install_machine(profile)?;
        step.done();
        Ok(tree)
    }

    /// Puts a copy of `from` at `to`, a path below the root.
    ///
    /// # Errors
    /// When it can't be copied.
    pub(crate) fn install_file(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.install(&content, to, mode)
    }

    /// Puts a file with `content` at `to`, a path below the root.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn install(&self, content: &[u8], to: &str, mode: u32) -> Result<()> {
        let path = self.root.join(to);
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Makes the image that the guest mounts.
    ///
    /// # Errors
    /// When `mke2fs` fails, with its output.
    pub(crate) fn make_image(&self, image: &Path, step: &Step) -> Result<()> {
        image::make_ext4(&self.root, image, step)
    }

    fn install_product(&self) -> Result<()> {
        for (program, to) in PROGRAMS {
            self.install_file(&project::guest_programs().join(program), to, 0o755)?;
        }
        let systemd = project::root().join("systemd");
        for entry in fs::read_dir(&systemd).into_iter().flatten() {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some((end, folder)) = SYSTEMD.iter().find(|(end, _)| name.ends_with(end)) else { continue };
            // The end says what kind of file it is here; where it goes, the folder says so.
            let installed = match *end {
                ".sysusers.conf" | ".tmpfiles.conf" => name.replace(end, ".conf"),
                _ => name,
            };
            self.install_file(&path, &format!("{folder}/{installed}"), 0o644)?;
        }
        Ok(())
    }

    fn install_machine(&self, profile: &Profile) -> Result<()> {
        let machine = project::root().join("tests/vm/guest");
        for script in ["devices", "shell"] {
            self.install_file(&machine.join(script), &format!("usr/libexec/peermem-vm/{script}"), 0o755)?;
        }
        let units = machine.join("units");
        for entry in fs::read_dir(&units).with_context(|| format!("cannot list {}", units.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.install_file(&path, &format!("usr/lib/systemd/system/{name}"), 0o644)?;
        }
        self.mask(&machine.join("masked"))?;
        self.install(profile.modules.join(" ").as_bytes(), "etc/peermem-vm/modules", 0o644)?;
        self.install(profile.setup.as_bytes(), "etc/peermem-vm/setup", 0o644)?;
        if profile.test_gpu {
            self.install(b"", "etc/peermem-vm/test-gpu", 0o644)?;
        }
        Ok(())
    }

    /// Links each unit and generator that `list` names to nothing, as `systemctl mask` does.
    fn mask(&self, list: &Path) -> Result<()> {
        let names = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
        let [units, generators] =
            ["etc/systemd/system", "etc/systemd/system-generators"].map(|to| self.root.join(to));
        fs::create_dir_all(&units)?;
        fs::create_dir_all(&generators)?;
        for name in names.lines().filter(|line| !line.starts_with('#')) {
            let folder = if name.ends_with("-generator") { &generators } else { &units };
            symlink("/dev/null", folder.join(name))?;
        }
        Ok(())
    }
}
