//! The kernel's version and configuration.

use std::{collections::BTreeSet, fs::File, io::Read, path::Path};

use flate2::read::GzDecoder;
use peermem::advice::KERNEL_FEATURES;

use super::file;
use crate::facts::{Seen, Unseen};

/// Ten times what a configuration has; a compressed one could claim to be endless.
const CONFIG_BYTES: u64 = 4 << 20;

pub(super) fn release(proc: &Path) -> Seen<String> {
    file::text(&proc.join("sys/kernel/osrelease"), 128)
}

/// Those of the options that matter here which are set.
pub(super) fn options(proc: &Path, boot: &Path) -> Seen<BTreeSet<String>> {
    let text = config(proc, boot)?;
    let known = |name: &str| KERNEL_FEATURES.iter().any(|feature| feature.option == name);
    let set = text.lines().filter_map(|line| {
        let name = line.strip_prefix("CONFIG_")?;
        name.strip_suffix("=y").or(name.strip_suffix("=m")).filter(|name| known(name))
    });
    Ok(set.map(str::to_owned).collect())
}

fn config(proc: &Path, boot: &Path) -> Seen<String> {
    let own = proc.join("config.gz");
    if let Ok(file) = File::open(&own) {
        let mut text = String::new();
        return match GzDecoder::new(file).take(CONFIG_BYTES).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Unseen(format!("{} can't be read: {error}", own.display()))),
        };
    }
    let path = boot.join(format!("config-{}", release(proc)?));
    file::text(&path, CONFIG_BYTES)
        .map_err(|unseen| Unseen(format!("there is no {}, and {unseen}", own.display())))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const CONFIG: &str =
        "# CONFIG_PCI_P2PDMA is not set\nCONFIG_INFINIBAND_ON_DEMAND_PAGING=y\nCONFIG_EXT4_FS=y\n";

    fn machine() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (proc, boot) = (folder.path().join("proc"), folder.path().join("boot"));
        fs::create_dir_all(proc.join("sys/kernel")).unwrap();
        fs::create_dir_all(&boot).unwrap();
        fs::write(proc.join("sys/kernel/osrelease"), "6.12.43+deb13-amd64\n").unwrap();
        (folder, proc, boot)
    }

    #[test]
    fn the_configuration_is_found_in_either_place() {
        let expected: BTreeSet<_> = ["INFINIBAND_ON_DEMAND_PAGING".to_owned()].into();
        let (_folder, proc, boot) = machine();
        let missing = options(&proc, &boot).unwrap_err();
        assert!(
            missing.0.contains("config.gz") && missing.0.contains("config-6.12.43+deb13-amd64"),
            "{missing}"
        );
        fs::write(boot.join("config-6.12.43+deb13-amd64"), CONFIG).unwrap();
        assert_eq!(options(&proc, &boot).unwrap(), expected);

        let (_folder, proc, boot) = machine();
        let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
        compressed.write_all(CONFIG.as_bytes()).unwrap();
        fs::write(proc.join("config.gz"), compressed.finish().unwrap()).unwrap();
        assert_eq!(options(&proc, &boot).unwrap(), expected);
        fs::write(proc.join("config.gz"), "not gzip").unwrap();
        assert!(options(&proc, &boot).is_err());
    }
}
