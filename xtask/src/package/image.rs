//! The container image, built by its recipe and run.
//!
//! The recipe's first stage comes from a registry of images, which a build machine need not reach. So that stage's script runs here,
//! and its result stands in for the stage; what users get, the second stage, is built as it is written.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Product;
use crate::command::{output_of, run_logged};
use crate::progress::Step;
use crate::project;

const FOLDER: &str = "deploy/container";
const NAME: &str = "peermem-check";

/// How long the daemon may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Builds the image, starts the daemon in a container of it and asks it for a lease from outside.
///
/// # Errors
/// When it can't be built, and when what is in it doesn't run.
pub(super) fn check(product: &Product) -> Result<()> {
    let step = Step::new("Container image");
    let stage = product.fresh_folder("image")?;
    let mut build = Command::new(project::root().join(FOLDER).join("build.sh"));
    build.arg(product.profile.name()).arg(stage.join("image")).env("CARGO_TARGET_DIR", project::target());
    run_logged(&mut build, &step, &project::log("image-build"))?;

    let buildah = Buildah { storage: tempfile::tempdir().context("cannot make a folder for images")? };
    let recipe = project::root().join(FOLDER).join("Containerfile");
    let mut make = buildah.command(&["build", "--tag", NAME, "--build-context"]);
    make.arg(format!("build={}", stage.display()))
        .arg("--file")
        .arg(&recipe)
        .arg(project::root().join(FOLDER));
    run_logged(&mut make, &step, &project::log("image"))?;

    let entry = ["inspect", "--type", "image", "--format", "{{.OCIv1.Config.Entrypoint}}", NAME];
    let entry = output_of(&mut buildah.command(&entry))?;
    ensure!(entry.trim() == "[/usr/bin/peermemd]", "the image begins with {}", entry.trim());
    let container = output_of(&mut buildah.command(&["from", NAME]))?.trim().to_owned();
    let plugin = ["run", &container, "--", "/usr/bin/peermem-device-plugin", "--version"];
    output_of(&mut buildah.command(&plugin))?;
    serve_from(&buildah, &container, product)?;
    step.done();
    Ok(())
}

/// Has the container's daemon lease memory to a client outside.
fn serve_from(buildah: &Buildah, container: &str, product: &Product) -> Result<()> {
    let shared = tempfile::tempdir().context("cannot make a folder for the socket")?;
    let mut daemon = buildah.command(&["run", "--volume"]);
    daemon.arg(format!("{}:/run/peermemd", shared.path().display()));
    daemon.args([
        container,
        "--",
        "/usr/bin/peermemd",
        "--emulate",
        "1MiB",
        "--socket",
        "/run/peermemd/peermemd.sock",
    ]);
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(project::log("image-daemon"))?);
    let mut daemon = Running(daemon.spawn().context("cannot start buildah")?);
    let socket = shared.path().join("peermemd.sock");
    let began = Instant::now();
    while !socket.exists() {
        let ended = daemon.0.try_wait()?;
        ensure!(
            ended.is_none() && began.elapsed() < PATIENCE,
            "the image's daemon doesn't listen: see {}",
            project::log("image-daemon").display()
        );
        thread::sleep(Duration::from_millis(20));
    }
    let ask = |arguments: &[&str]| {
        output_of(Command::new(product.program("peermemctl")).arg("--socket").arg(&socket).args(arguments))
    };
    ask(&["status"])?;
    ask(&["map", "emulated", "--size", "64KiB", "--initiator", "emulated", "--for", "0"])?;
    Ok(())
}

/// buildah with images of its own.
struct Buildah {
    storage: tempfile::TempDir,
}

impl Buildah {
    fn command(&self, arguments: &[&str]) -> Command {
        let inside = |name: &str| self.storage.path().join(name);
        let mut command = Command::new("buildah");
        command.arg("--root").arg(inside("images")).arg("--runroot").arg(inside("run")).args(arguments);
        // Needs neither a daemon, nor namespaces, nor an overlay in the kernel.
        command.env("STORAGE_DRIVER", "vfs").env("BUILDAH_ISOLATION", "chroot");
        command
    }
}

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
