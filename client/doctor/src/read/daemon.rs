//! The daemon, as far as it answers, and what it holds.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use peermem::Client;
use peermem_proto::{ByteLen, PciAddress};

use super::in_words;
use crate::facts::{Daemon, Seen, Unseen};

/// Longer than a daemon that is well ever takes.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn ask(socket: Option<&Path>, proc: &Path) -> Seen<Daemon> {
    let client = match socket {
        Some(path) => Client::connect_to(path),
        None => Client::connect(),
    };
    let client = client.map_err(|error| in_words(&error))?;
    client.set_timeout(PATIENCE);
    let status = client.status().map_err(|error| in_words(&error))?;
    Ok(Daemon {
        socket: client.socket().display().to_string(),
        regions: client.regions().map_err(|error| in_words(&error))?,
        holds: holds(&proc.join(status.pid.to_string()).join("maps")),
        status,
    })
}

fn holds(maps: &Path) -> Seen<BTreeMap<PciAddress, ByteLen>> {
    let unseen = |error| Unseen(format!("{} can't be read: {error}; run as root", maps.display()));
    Ok(parse(&fs::read_to_string(maps).map_err(unseen)?))
}

/// The mappings of `p2pmem/allocate` files, summed up for each device.
fn parse(maps: &str) -> BTreeMap<PciAddress, ByteLen> {
    let mut holds = BTreeMap::<_, ByteLen>::new();
    for (device, length) in maps.lines().filter_map(mapping) {
        let sum = holds.entry(device).or_default();
        *sum = sum.saturating_add(length);
    }
    holds
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE      /sys/devices/.../ADDRESS/p2pmem/allocate` (proc_pid_maps(5))
fn mapping(line: &str) -> Option<(PciAddress, ByteLen)> {
    let (_, device) = line.strip_suffix("/p2pmem/allocate")?.rsplit_once('/')?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).ok());
    Some((device.parse().ok()?, ByteLen::new(end?.checked_sub(start?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_maps_of_a_pool_is_summed_up() {
        let maps = "\
55d0c0000000-55d0c0001000 r--p 00000000 fe:01 1234                       /usr/bin/peermemd
7f2c00000000-7f2c00400000 rw-s 00000000 00:16 777                        /sys/devices/pci0000:00/0000:00:04.0/0000:03:00.0/p2pmem/allocate
7f2c00800000-7f2c00801000 rw-s 00000000 00:16 777                        /sys/devices/pci0000:00/0000:00:04.0/0000:03:00.0/p2pmem/allocate
7f2c01000000-7f2c01002000 rw-s 00000000 00:16 888                        /sys/devices/pci0000:00/0000:00:05.0/p2pmem/allocate
7f2c02000000-7f2c02002000 rw-s 00000000 00:16 999                        /tmp/0000:00:06.0/p2pmem/allocate (deleted)
";
        let expected = [("0000:00:05.0", 0x2000), ("0000:03:00.0", 0x40_1000)];
        let expected = expected.map(|(device, bytes)| (device.parse().unwrap(), ByteLen::new(bytes)));
        assert_eq!(parse(maps), expected.into());
    }
}
