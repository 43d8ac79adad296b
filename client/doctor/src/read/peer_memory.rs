//! The peer-memory interface: who is registered with it, not which module happens to be loaded.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use super::file;
use crate::facts::PeerMemory;

const MODULES: [&str; 4] = ["nvidia", "nvidia_peermem", "nv_peer_mem", "amdgpu"];

pub(super) fn read(sysfs: &Path, proc: &Path) -> PeerMemory {
    let loaded = |name: &&str| sysfs.join("module").join(name).exists();
    let modules = MODULES.into_iter().filter(loaded).map(str::to_owned).collect();
    // RDMA drivers from outside the kernel make a folder for every client that has registered.
    let clients = file::names(&sysfs.join("kernel/mm/memory_peers")).into_iter().collect();
    PeerMemory { modules, clients, interface: interface(&proc.join("kallsyms")) }
}

/// Whether the kernel has `ib_register_peer_memory_client`. Everyone may read the names of symbols, if not where they are.
fn interface(kallsyms: &Path) -> Option<bool> {
    let lines = BufReader::new(File::open(kallsyms).ok()?).lines();
    let mut any = false;
    for line in lines {
        let line = line.ok()?;
        any = true;
        if line.split_whitespace().nth(2) == Some("ib_register_peer_memory_client") {
            return Some(true);
        }
    }
    any.then_some(false)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn loaded_and_registered_are_two_things() {
        let folder = tempfile::tempdir().unwrap();
        let sysfs = folder.path().join("sys");
        fs::create_dir_all(sysfs.join("module/nvidia_peermem")).unwrap();
        let kallsyms =
            "0000000000000000 T vfs_read\n0000000000000000 T ib_register_peer_memory_client\t[ib_core]\n";
        fs::write(folder.path().join("kallsyms"), kallsyms).unwrap();
        let loaded = read(&sysfs, folder.path());
        assert!(loaded.modules.contains("nvidia_peermem") && loaded.clients.is_empty());
        assert_eq!(loaded.interface, Some(true));
        fs::create_dir_all(sysfs.join("kernel/mm/memory_peers/nv_mem")).unwrap();
        assert!(read(&sysfs, folder.path()).clients.contains("nv_mem"));
        fs::write(folder.path().join("kallsyms"), "0000000000000000 T vfs_read\n").unwrap();
        assert_eq!(read(&sysfs, folder.path()).interface, Some(false));
        assert_eq!(read(&sysfs, &sysfs).interface, None, "no kallsyms");
    }
}
