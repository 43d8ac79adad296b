//! `cargo xtask package`: what users install.

mod deb;
mod generated;
mod image;
pub(crate) mod manifests;
mod rpm;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::progress::{Step, say};
use crate::project::{self, CargoProfile};
use crate::{cache, host};

/// Cargo packages whose programs users get.
const PROGRAMS: &[&str] = &["peermemd", "peermemctl"];

/// The cargo package whose `Cargo.toml` says what is in a package, and where that is.
const MANIFEST_OF: &str = "peermemd";
const MANIFEST_FOLDER: &str = "daemon";

/// Options of `package`.
#[derive(Debug, Args)]
pub(crate) struct PackageOptions {
    /// Make an RPM too
    #[arg(long)]
    rpm: bool,
}

/// Builds the product and makes packages of it; prints each one's path.
///
/// # Errors
/// When a step fails, and when a package has a fault.
pub(crate) fn run(options: &PackageOptions) -> Result<ExitCode> {
    host::install_missing()?;
    let product = Product::build(CargoProfile::Release, &[])?;
    for program in PROGRAMS {
        say(&format!("{program}: {}", in_mib(&product.program(program))?));
    }
    let mut packages = vec![product.checked_deb()?];
    if options.rpm {
        packages.push(product.checked_rpm()?);
    }
    for package in packages {
        say(&format!("{}: {}", package.file_name().unwrap_or_default().display(), in_mib(&package)?));
        println!("{}", package.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes both packages of what guests get, which is built sooner.
///
/// # Errors
/// As [`run`].
pub(crate) fn check() -> Result<()> {
    let product = Product::build(CargoProfile::Guest, &[])?;
    product.checked_deb()?;
    product.checked_rpm()?;
    Ok(())
}

/// Makes the container image of the same, and runs what is in it.
///
/// # Errors
/// When it can't be made or doesn't run.
pub(crate) fn check_image() -> Result<()> {
    image::check(&Product::build(CargoProfile::Guest, &[])?)
}

/// What users get, built. Another xtask of this checkout waits for this value's end before it builds its own.
pub(crate) struct Product {
    profile: CargoProfile,
    _in_use: File,
}

impl Product {
    /// Builds the programs, and those of the cargo packages `others`; then what `peermemctl` prints for the packages.
    ///
    /// # Errors
    /// When cargo fails, with its output.
    pub(crate) fn build(profile: CargoProfile, others: &[&str]) -> Result<Self> {
        let step = Step::new(format!("Programs, profile {}", profile.name()));
        fs::create_dir_all(profile.programs())?;
        let lock = File::create(profile.programs().join("package.lock"))
            .context("cannot make the product's lock")?;
        lock.lock()?;
        project::build(profile, &[PROGRAMS, others].concat(), &step)?;
        let product = Self { profile, _in_use: lock };
        generated::write(&product)?;
        step.done();
        Ok(product)
    }

    /// A built program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.profile.programs().join(name)
    }

    /// Makes the Debian package, without a look at it.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn deb(&self, step: &Step) -> Result<PathBuf> {
        deb::make(self, step)
    }

    fn checked_deb(&self) -> Result<PathBuf> {
        let step = Step::new("Debian package");
        let package = deb::make(self, &step)?;
        deb::check(&package, &step)?;
        step.done();
        Ok(package)
    }

    fn checked_rpm(&self) -> Result<PathBuf> {
        let step = Step::new("RPM");
        let package = rpm::make(self, &step)?;
        rpm::check(&package)?;
        step.done();
        Ok(package)
    }

    /// An empty folder for what `kind` makes, where the packages' metadata expects it.
    fn fresh_folder(&self, kind: &str) -> Result<PathBuf> {
        let folder = self.profile.programs().join("package").join(kind);
        cache::remove_tree(&folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

/// The one file in `folder`.
fn only_file(folder: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    match <[PathBuf; 1]>::try_from(files) {
        Ok([file]) => Ok(file),
        Err(files) => bail!("{} holds {files:?}, not one package", folder.display()),
    }
}

fn in_mib(file: &Path) -> Result<String> {
    let bytes = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?.len();
    // In tenths, rounded up: a size that is held against a limit isn't flattered.
    let tenths = (bytes * 10).div_ceil(1 << 20);
    Ok(format!("{}.{} MiB", tenths / 10, tenths % 10))
}
