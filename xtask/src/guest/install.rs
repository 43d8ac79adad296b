//! What a run adds to the guest's root: the product's package, the test programs, and the files that make the root a guest of
//! xtask.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run_logged;
use crate::package::Product;
use crate::progress::Step;
use crate::project::{self, CargoProfile};
use crate::vm::Profile;

use super::{Guest, image, overlay};

/// Programs of the guest's own: the cargo package and program, and where the guest has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("peermem-bench", "usr/libexec/peermem-tests/peermem-bench"),
    ("peermem-demo", "usr/libexec/peermem-tests/peermem-demo"),
    ("peermem-vm-agent", "usr/libexec/peermem-vm/agent"),
];

/// A folder that lies over the guest's root, for one run.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Builds the product by `programs` and fills a tree in `folder` with it, for a guest of `profile`.
    ///
    /// # Errors
    /// When the build fails or a file can't be copied.
    pub(crate) fn build(
        folder: &Path,
        guest: &Guest,
        profile: &Profile,
        programs: CargoProfile,
    ) -> Result<Self> {
        let own: Vec<_> = PROGRAMS.iter().map(|(program, _)| *program).collect();
        let product = Product::build(programs, &own)?;
        let step = Step::new("Tree of the guest");
        let tree = Tree { root: folder.join("tree") };
        let package = product.deb(&step)?;
        tree.install_package(&package, guest, &step)?;
        if let Some(modules) = &guest.full_vfio {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(modules.join(".")).arg(&tree.root);
            run_logged(&mut copy, &step, &project::log("vfio-copy"))?;
        }
        tree.install_file(&package, "usr/lib/peermem-tests/peermem.deb", 0o644)?;
        for (program, to) in PROGRAMS {
            tree.install_file(&product.program(program), to, 0o755)?;
        }
        tree.install_file(&guest.test_gpu.module, "usr/lib/peermem-tests/peermem_testgpu.ko", 0o644)?;
        let importer = "usr/lib/peermem-tests/peermem_testimporter.ko";
        tree.install_file(&guest.test_gpu.importer, importer, 0o644)?;
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

    /// Installs the product as users do, by dpkg. That is done here since it takes ten times as long in the guest.
    fn install_package(&self, package: &Path, guest: &Guest, step: &Step) -> Result<()> {
        const PACKAGE: &str = "peermem.deb";
        self.install_file(package, PACKAGE, 0o644)?;
        let install = ["dpkg", "--install", "/peermem.deb"];
        overlay::run(&install, &guest.root(), &self.root, step, "dpkg")?;
        Ok(fs::remove_file(self.root.join(PACKAGE))?)
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
