//! The topology's verdicts against the kernel's: for every pair of drives, `pread` with `O_DIRECT` from the one
//! into the Controller Memory Buffer (CMB) of the other.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used)]

use std::{
    ffi::c_void,
    fs::{self, File},
    io,
    num::NonZeroUsize,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    ptr::NonNull,
    thread,
};

use caps::{CapSet, Capability};
use nix::{
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};
use peermem_proto::{Initiator, PciAddress};
use peermem_topology::{Acs, ConfigSpaces, Cpu, Snapshot};

const BYTES: usize = 64 * 1024;

struct Drive {
    name: String,
    address: PciAddress,
    disk: PathBuf,
}

/// The guest's drives with a CMB, by name. Their contents are overwritten here, so that none but QEMU's will do.
fn drives() -> Vec<Drive> {
    let mut drives: Vec<_> =
        fs::read_dir("/sys/class/nvme").unwrap().map(|entry| drive(&entry.unwrap().path())).collect();
    drives.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(drives.len() >= 3, "the scenario needs drives A and B below a switch and C elsewhere");
    drives
}

fn drive(controller: &Path) -> Drive {
    let attribute = |name| fs::read_to_string(controller.join(name)).unwrap().trim().to_owned();
    assert_eq!(attribute("model"), "QEMU NVMe Ctrl", "this writes to the drives' first bytes");
    let name = controller.file_name().unwrap().to_str().unwrap();
    Drive {
        name: attribute("serial"),
        address: attribute("address").parse().unwrap(),
        disk: Path::new("/dev").join(format!("{name}n1")),
    }
}

/// Bytes without a period: SplitMix64 over seed and offset.
fn pattern(seed: u64) -> Vec<u8> {
    let word = |index: u64| {
        let mut z = (seed << 32 ^ index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    (0..).map(word).flat_map(u64::to_le_bytes).take(BYTES).collect()
}

/// Fresh memory of a device's p2pmem pool, mapped.
struct Cmb {
    start: NonNull<c_void>,
}

impl Cmb {
    fn map(device: PciAddress) -> Self {
        let path = format!("/sys/bus/pci/devices/{device}/p2pmem/allocate");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let length = NonZeroUsize::new(BYTES).unwrap();
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing that is in use.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0) }.unwrap();
        Self { start }
    }

    fn byte(&self, offset: usize) -> *mut u8 {
        assert!(offset < BYTES);
        self.start.as_ptr().cast::<u8>().wrapping_add(offset)
    }

    fn fill(&self, bytes: &[u8]) {
        for (offset, &byte) in bytes.iter().enumerate() {
            // SAFETY: `byte` gives a pointer inside the mapping, which lives as long as `self` and is writable; volatile,
            // because a device reads and writes there too.
            unsafe { self.byte(offset).write_volatile(byte) };
        }
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: as in `fill`.
        (0..BYTES).map(|offset| unsafe { self.byte(offset).read_volatile() }).collect()
    }

    /// One `pread` of the disk's first bytes into the device memory.
    fn read_from(&self, disk: &File) -> io::Result<()> {
        // SAFETY: the kernel writes at most `BYTES` bytes from the start of the mapping, which has as many, and no
        // reference to them exists.
        let got = unsafe { libc::pread(disk.as_raw_fd(), self.start.as_ptr(), BYTES, 0) };
        match usize::try_from(got) {
            Ok(BYTES) => Ok(()),
            Ok(got) => Err(io::Error::other(format!("{got} bytes of {BYTES}"))),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Cmb {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this start and length, and no pointer into it outlives `self`. A failure
        // leaves it mapped, which harms nobody.
        let _ = unsafe { munmap(self.start, BYTES) };
    }
}

fn snapshot(configs: &ConfigSpaces) -> Snapshot {
    Snapshot::read(Path::new("/sys"), Cpu::read(Path::new("/proc/cpuinfo")).unwrap(), configs).unwrap()
}

#[test]
fn every_verdict_is_the_kernels() {
    let snapshot = snapshot(&ConfigSpaces::open(Path::new("/sys")).unwrap());
    println!("snapshot: {}", serde_json::to_string(&snapshot).unwrap());
    let mut differences = Vec::new();
    for (seed, initiator) in (1..).zip(drives()) {
        let written = pattern(seed);
        let disk = File::options().write(true).open(&initiator.disk).unwrap();
        disk.write_all_at(&written, 0).unwrap();
        disk.sync_all().unwrap();
        let disk = File::options().read(true).custom_flags(libc::O_DIRECT).open(&initiator.disk).unwrap();
        for provider in drives() {
            let verdict = snapshot.route(provider.address, &Initiator::Pci(initiator.address));
            let cmb = Cmb::map(provider.address);
            cmb.fill(&pattern(0));
            let outcome = cmb.read_from(&disk);
            let arrived = cmb.bytes() == written;
            let line = format!(
                "disk {} -> CMB of {}: predicted {}; the kernel {}; {}",
                initiator.name,
                provider.name,
                verdict.as_ref().map_or_else(ToString::to_string, ToString::to_string),
                outcome.as_ref().map_or_else(|error| format!("refused: {error}"), |()| "accepted".to_owned()),
                if arrived { "the bytes arrived" } else { "the bytes did not arrive" },
            );
            println!("{line}");
            if verdict.is_ok() != outcome.is_ok() || arrived != outcome.is_ok() {
                differences.push(line);
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn acs_stays_readable_after_the_capability_is_dropped() {
    let configs = ConfigSpaces::open(Path::new("/sys")).unwrap();
    let privileged = snapshot(&configs);
    let registers = |snapshot: &Snapshot| {
        snapshot.functions.values().filter(|f| matches!(f.acs, Acs::Control(_))).count()
    };
    assert!(registers(&privileged) > 0, "QEMU's root ports have ACS");
    // Capabilities belong to a thread.
    thread::spawn(move || {
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
        assert_eq!(snapshot(&configs), privileged);
        let afresh = snapshot(&ConfigSpaces::open(Path::new("/sys")).unwrap());
        for (address, function) in &afresh.functions {
            // `express` tells PCI Express from conventional PCI, whose whole configuration space has no place for ACS.
            let expected = if function.express { Acs::Unreadable } else { Acs::Absent };
            assert_eq!(function.acs, expected, "{address}");
        }
    })
    .join()
    .unwrap();
}
