//! QEMU's command line for a guest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use peermem_vm_agent::PORT_NAME;

use super::Profile;

/// Size of each drive that a profile names, in bytes.
const DRIVE_BYTES: u64 = 64 << 20;

/// What the guest does once it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Runs what the host asks for.
    Run,
    /// Gives a root shell on the console.
    Shell,
}

/// The files a guest boots from.
pub(crate) struct Files {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The root, shared by all guests.
    pub root: PathBuf,
    /// The image of the installed tree.
    pub tree: PathBuf,
    /// The modules of a kernel that isn't the root's own.
    pub modules: Option<PathBuf>,
    /// Folder of this run, for drives and the agent's socket.
    pub run: PathBuf,
}

impl Files {
    /// The socket on which xtask waits for QEMU to connect the agent's port.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    /// Makes the profile's drives, sparse.
    ///
    /// # Errors
    /// When a file can't be made.
    pub(crate) fn make_drives(&self, profile: &Profile) -> Result<()> {
        for name in &profile.drives {
            let file = self.drive(name);
            File::create(&file)
                .and_then(|file| file.set_len(DRIVE_BYTES))
                .with_context(|| format!("cannot make {}", file.display()))?;
        }
        Ok(())
    }

    fn drive(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.img"))
    }
}

/// The command that runs a guest of `profile`, its console on standard input and output.
///
/// `setpriv` has the kernel end QEMU when xtask dies, however it dies.
pub(crate) fn command(profile: &Profile, files: &Files, mode: Mode) -> Command {
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    qemu.args(arguments(profile, files, mode));
    qemu
}

fn arguments(profile: &Profile, files: &Files, mode: Mode) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    // KVM may exist and yet hang a guest, so it is never tried.
    add("-accel", "tcg,thread=multi".into());
    add("-machine", profile.machine.clone());
    add("-cpu", profile.cpu.clone());
    add("-smp", "2".into());
    add("-m", profile.memory.clone());
    add("-kernel", files.kernel.display().to_string());
    add("-initrd", files.initramfs.display().to_string());
    add("-append", kernel_arguments(profile, mode));
    // Before the machine's own devices, since an IOMMU must come first.
    for name in &profile.drives {
        add("-drive", format!("if=none,id={name},format=raw,file={}", escaped(&files.drive(name))));
    }
    profile.objects.iter().for_each(|object| add("-object", object.clone()));
    profile.devices.iter().for_each(|device| add("-device", device.clone()));
    let images =
        [("root", Some(&files.root)), ("tree", Some(&files.tree)), ("modules", files.modules.as_ref())];
    for (name, image) in images.into_iter().filter_map(|(name, image)| Some((name, image?))) {
        add("-drive", format!("if=none,id={name},format=raw,readonly=on,file={}", escaped(image)));
        add("-device", format!("virtio-blk-pci,drive={name}"));
    }
    // Without the host or anything beyond: `restrict`.
    add("-netdev", "user,id=net,restrict=on".into());
    add("-device", "virtio-net-pci,netdev=net".into());
    if mode == Mode::Run {
        add("-chardev", format!("socket,id=agent,path={}", escaped(&files.agent_socket())));
        add("-device", "virtio-serial-pci".into());
        add("-device", format!("virtserialport,chardev=agent,name={PORT_NAME}"));
    }
    add("-serial", if mode == Mode::Shell { "mon:stdio".into() } else { "stdio".into() });
    arguments.extend(["-nodefaults", "-vga", "none", "-display", "none", "-no-reboot"].map(str::to_owned));
    arguments
}

fn kernel_arguments(profile: &Profile, mode: Mode) -> String {
    let target = match mode {
        Mode::Run => "peermem-vm-run.target",
        Mode::Shell => "peermem-vm-shell.target",
    };
    let common = [
        "console=ttyS0",
        // Warnings are shown: a test that makes the kernel warn has found something.
        "loglevel=5",
        "panic=-1",
        "mitigations=off",
        "net.ifnames=0",
        // The kernel patches its code while it boots, which QEMU's emulation of two processors
        // doesn't always get right (2 of 60 boots panicked in an int3); `init` starts the second.
        "maxcpus=1",
        // The clock's watchdog would take a processor that the host had no time for as a bad clock.
        "tsc=reliable",
        "rcupdate.rcu_expedited=1",
        "systemd.hostname=guest",
        // Without it systemd writes escape sequences to the console.
        "TERM=dumb",
        "systemd.show_status=0",
    ];
    let mut words: Vec<&str> = common.to_vec();
    let target = format!("systemd.unit={target}");
    words.push(&target);
    words.extend(profile.kernel_args.iter().map(String::as_str));
    words.join(" ")
}

/// QEMU's option parser takes two commas for one.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_becomes_arguments() {
        let profile = Profile::load(super::super::profile::DEFAULT).unwrap();
        let path = PathBuf::from("/x");
        let [kernel, initramfs, root, tree] = [path.clone(), path.clone(), path.clone(), path];
        let files = Files { kernel, initramfs, root, tree, modules: None, run: "/run,1".into() };
        let arguments = arguments(&profile, &files, Mode::Run).join(" ");
        assert!(arguments.contains("-drive if=none,id=a,format=raw,file=/run,,1/a.img"), "{arguments}");
        assert!(arguments.contains("-device nvme,serial=c,drive=c,cmb_size_mb=64,bus=port1"), "{arguments}");
        assert!(arguments.contains("systemd.unit=peermem-vm-run.target"), "{arguments}");
        assert!(arguments.contains("-accel tcg") && !arguments.contains("kvm"), "{arguments}");
        assert!(arguments.contains("user,id=net,restrict=on"), "{arguments}");
    }
}
