//! Which system this is, and whether xtask can work on it.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

/// The machine's Debian release.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// As apt calls it, such as `bookworm`.
    pub codename: String,
}

impl Release {
    /// Finds out, and checks that xtask can set up a guest here.
    ///
    /// # Errors
    /// Says what is missing: Debian, or root.
    pub(crate) fn detect() -> Result<Self> {
        let text = fs::read_to_string("/etc/os-release")
            .context("cannot tell which system this is: /etc/os-release")?;
        let release = Self::parse(&text)?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "this needs root: it installs Debian packages and makes the guest's root file system; run it as root"
        );
        Ok(release)
    }

    fn parse(os_release: &str) -> Result<Self> {
        let field = |name: &str| {
            let mut pairs = os_release.lines().filter_map(|line| line.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches(['"', '\'']))
        };
        match (field("ID"), field("VERSION_CODENAME")) {
            (Some("debian"), Some(codename)) => Ok(Release { codename: codename.to_owned() }),
            (id, _) => bail!(
                "this needs Debian 12 or newer, whose packages make the guest; this machine is {}",
                field("PRETTY_NAME").or(id).unwrap_or("unknown")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_recognised_and_others_named() {
        let release =
            Release::parse("PRETTY_NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n").unwrap();
        assert_eq!(release.codename, "bookworm");
        let error = Release::parse("ID=fedora\nPRETTY_NAME=\"Fedora Linux 41\"\n").unwrap_err().to_string();
        assert!(error.ends_with("this machine is Fedora Linux 41"), "{error}");
    }
}
