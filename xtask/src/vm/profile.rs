//! Guest profiles: one file each in `tests/vm/profiles/`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::guest::Kernel;
use crate::project;

/// The profile used unless another is asked for.
pub(crate) const DEFAULT: &str = "switch";

/// A guest's hardware and what its set-up needs to know about it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub about: String,
    /// QEMU's machine type and its properties.
    #[serde(default = "Profile::default_machine")]
    pub machine: String,
    /// QEMU's CPU model.
    #[serde(default = "Profile::default_cpu")]
    pub cpu: String,
    /// QEMU's memory option.
    #[serde(default = "Profile::default_memory")]
    pub memory: String,
    /// The kernel it boots: `newest`, `full-vfio` or `suite`.
    #[serde(default)]
    pub kernel: Kernel,
    /// Added to the kernel's command line.
    #[serde(default)]
    pub kernel_args: Vec<String>,
    /// Names of 64 MiB drives, fresh for each run, for `devices` to refer to.
    #[serde(default)]
    pub drives: Vec<String>,
    /// QEMU's `-object` arguments.
    #[serde(default)]
    pub objects: Vec<String>,
    /// QEMU's `-device` arguments, in order.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Kernel modules loaded before RDMA's.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Whether the display adapter gets the test GPU's driver.
    #[serde(default)]
    pub test_gpu: bool,
    /// Shell commands run after all devices are up.
    #[serde(default)]
    pub setup: String,
}

impl Profile {
    /// Reads the profile `name`.
    ///
    /// # Errors
    /// For an unknown name (which lists those that exist) and a faulty file.
    pub(crate) fn load(name: &str) -> Result<Self> {
        let file = folder().join(format!("{name}.toml"));
        let names = Self::names()?;
        if !names.iter().any(|known| known == name) {
            bail!("there is no guest profile `{name}`; there are: {}", names.join(", "));
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(name, &text).with_context(|| format!("{} is no profile", file.display()))
    }

    /// The names of all profiles, sorted.
    ///
    /// # Errors
    /// When their folder can't be read.
    pub(crate) fn names() -> Result<Vec<String>> {
        let folder = folder();
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let file = entry?.file_name();
            names.extend(file.to_string_lossy().strip_suffix(".toml").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let mut profile: Profile = toml::from_str(text)?;
        name.clone_into(&mut profile.name);
        Ok(profile)
    }

    fn default_machine() -> String {
        "q35,sata=off,smbus=off,i8042=off".into()
    }

    fn default_cpu() -> String {
        "max".into()
    }

    fn default_memory() -> String {
        "2G".into()
    }
}

/// Prints every profile: its name, what it is, its devices.
///
/// # Errors
/// When a profile is faulty or standard output is closed.
pub(crate) fn list() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for name in Profile::names()? {
        let profile = Profile::load(&name)?;
        let default = if name == DEFAULT { " (default)" } else { "" };
        writeln!(out, "{name}{default}: {}", profile.about)?;
        for device in &profile.devices {
            writeln!(out, "    {device}")?;
        }
    }
    Ok(())
}

fn folder() -> PathBuf {
    project::root().join("tests/vm/profiles")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_of_the_project_is_valid() {
        let names = Profile::names().unwrap();
        assert!(names.iter().any(|name| name == DEFAULT));
        for name in names {
            let profile = Profile::load(&name).unwrap();
            assert!(!profile.about.is_empty() && !profile.devices.is_empty(), "{name}");
            for drive in &profile.drives {
                let used = format!("drive={drive}");
                assert!(
                    profile.devices.iter().any(|device| device.split(',').any(|part| part == used)),
                    "{name}: {drive}"
                );
            }
        }
    }

    #[test]
    fn unknown_names_and_keys_are_refused() {
        let error = Profile::load("swich").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no guest profile `swich`; there are: ") && error.contains("switch"),
            "{error}"
        );
        let error = Profile::parse("x", "about = 'x'\ncpus = 3\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("unknown field `cpus`"), "{error}");
    }
}
