//! What `peermemctl bench --recommend --save` measured, kept for `doctor` to quote.
//!
//! A file a pair and operation: the last measurement counts. Root's are the machine's, in a folder that everyone reads;
//! those of other users are their own.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use peermem_proto::{ByteLen, Initiator, PciAddress, RegionName};
use serde::{Deserialize, Serialize};

use crate::{
    facts::{Seen, Unseen},
    read::file,
};

/// How bytes get from one device's memory to the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The RDMA device moves them from the one to the other.
    Direct,
    /// Through host memory at both ends.
    Bounced,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Bounced => "bounced",
        })
    }
}

/// The better way for messages of one length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Better {
    /// How long they are.
    pub bytes: ByteLen,
    /// The better way.
    pub way: Way,
    /// Its bandwidth over the other's, with as many messages under way.
    pub ratio: f64,
}

/// What was measured between two regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recommendation {
    /// `write`, `read` or `send`.
    pub operation: String,
    /// Where the bytes came from.
    pub from: RegionName,
    /// Where they went.
    pub to: RegionName,
    /// The PCI functions of both regions, as far as they have some.
    pub providers: Vec<PciAddress>,
    /// What moved them.
    pub initiator: Initiator,
    /// The kernel's release then.
    pub kernel: String,
    /// When, in UTC.
    pub date: String,
    /// Message lengths, the shortest first.
    pub sizes: Vec<Better>,
}

/// Bytes of the longest file that is read.
const LONGEST: u64 = 64 << 10;

/// Where the machine's are.
const SYSTEM: &str = "/var/lib/peermem/recommendations";

/// Where recommendations are looked for, and where this process keeps them: the last.
pub fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from(SYSTEM)];
    if !rustix::process::geteuid().is_root() {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        folders.extend(state.map(|state| state.join("peermem/recommendations")));
    }
    folders
}

impl Recommendation {
    /// Keeps it in `folder`, in the place of an earlier one of the same pair and operation; returns where.
    ///
    /// # Errors
    /// When it can't be written there.
    pub fn save(&self, folder: &Path) -> io::Result<PathBuf> {
        let Self { operation, from, to, initiator, .. } = self;
        let path = folder.join(format!("{operation},{from},{to},{initiator}.json"));
        let partial = path.with_extension("json.partial");
        fs::create_dir_all(folder)?;
        let mut file = fs::File::create(&partial)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        fs::rename(partial, &path)?;
        Ok(path)
    }

    /// Those in `folders`, in the order of their files' names.
    pub(crate) fn all(folders: &[PathBuf]) -> Vec<Seen<Self>> {
        let files = folders.iter().flat_map(|folder| {
            let names = file::names(folder).into_iter().filter(|name| name.ends_with(".json"));
            names.map(|name| folder.join(name)).collect::<Vec<_>>()
        });
        files.map(|path| Self::read(&path)).collect()
    }

    fn read(path: &Path) -> Seen<Self> {
        let text = file::text(path, LONGEST)?;
        serde_json::from_str(&text)
            .map_err(|error| Unseen(format!("{} is no recommendation: {error}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recommendation(way: Way) -> Recommendation {
        Recommendation {
            operation: "write".to_owned(),
            from: "cmb-a".parse().unwrap(),
            to: "cmb-b".parse().unwrap(),
            providers: vec!["0000:03:00.0".parse().unwrap()],
            initiator: "rdma:rxe0".parse().unwrap(),
            kernel: "7.3.4".to_owned(),
            date: "2026-11-24 18:00".to_owned(),
            sizes: vec![Better { bytes: ByteLen::new(4096), way, ratio: 1.5 }],
        }
    }

    #[test]
    fn the_last_one_of_a_pair_is_found_again() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("a/b");
        let kept = || Recommendation::all(std::slice::from_ref(&folder));
        assert!(kept().is_empty());
        recommendation(Way::Direct).save(&folder).unwrap();
        let last = recommendation(Way::Bounced);
        last.save(&folder).unwrap();
        let read = Recommendation { operation: "read".to_owned(), ..last.clone() };
        read.save(&folder).unwrap();
        assert_eq!(kept(), [Ok(read), Ok(last)]);

        fs::write(folder.join("x.json"), "{}").unwrap();
        let unseen = kept().pop().unwrap().unwrap_err();
        assert!(unseen.0.contains("x.json is no recommendation"), "{unseen}");
    }

    #[test]
    fn root_keeps_the_machines_and_others_their_own() {
        let folders = folders();
        assert_eq!(folders[0], Path::new(SYSTEM));
        assert_eq!(folders.len() == 1, rustix::process::geteuid().is_root() || env::var_os("HOME").is_none());
    }
}
