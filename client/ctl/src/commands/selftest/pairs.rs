//! Whether bytes arrive between drives and device memory. A route says what the kernel accepts; on some machines (an
//! emulated IOMMU, a broken bridge) it accepts, the drive reports success, and no byte arrives.
//!
//! Drives are only read. The memory is filled with something that isn't on the drive first, so that a byte which didn't
//! arrive shows.

use std::{
    fs::File,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use peermem::{
    CallFailed, Client, DirectIoError, Lease,
    proto::{
        ByteLen, Direction, Extent, Initiator, PciAddress, ProviderKind, Refusal, Region, RegionName,
        call::Map, varlink::CallError,
    },
    rdma::pattern,
};
use peermem_topology::{ConfigSpaces, Snapshot};
use serde::Serialize;

use crate::output::Output;

/// How much of each drive is read.
const LENGTH: usize = 64 << 10;

/// One drive and one region.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    drive: PathBuf,
    initiator: Initiator,
    region: RegionName,
    provider: PciAddress,
    result: Outcome,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Outcome {
    /// Every byte.
    Arrived,
    /// Accepted, and wrong.
    Lost { wrong: String },
    /// There is no route; the daemon says why.
    NoRoute { why: String },
    /// The daemon would have granted it, and the kernel refused.
    Refused { why: String },
    /// Not known: the test itself failed, for want of free memory for example.
    Untested { why: String },
}

impl Pair {
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.result, Outcome::Lost { .. })
    }

    pub(super) fn is_untested(&self) -> bool {
        matches!(self.result, Outcome::Untested { .. })
    }
}

/// Reads every NVMe drive into every region of peer memory; tells the daemon what came of it if `report`. A pair that can't be tested is
/// an outcome too, and leaves the daemon with what it knew of it.
pub(super) fn test(client: &Client, report: bool) -> Result<Vec<Pair>> {
    let regions = client.regions()?;
    let mut pairs = Vec::new();
    for (drive, initiator) in drives()? {
        for region in regions.iter().filter(|region| region.provider == ProviderKind::P2pmem) {
            let Some(provider) = region.device else { continue };
            let tested = |found: Result<Outcome>| {
                found.unwrap_or_else(|error| Outcome::Untested { why: format!("{error:#}") })
            };
            let mut result = tested(test_pair(client, &drive, &initiator, region));
            if report && let Outcome::Lost { wrong: known } = &result {
                // It may be what an earlier report said, by which the mapping was refused.
                let known = known.clone();
                client.report_pair(provider, initiator.clone(), None)?;
                result = tested(test_pair(client, &drive, &initiator, region));
                let wrong = match &result {
                    Outcome::Lost { wrong } => Some(wrong.clone()),
                    Outcome::Untested { .. } => Some(known),
                    _ => None,
                };
                if wrong.is_some() {
                    client.report_pair(provider, initiator.clone(), wrong)?;
                }
            }
            let (drive, initiator, region) = (drive.clone(), initiator.clone(), region.name.clone());
            pairs.push(Pair { drive, initiator, region, provider, result });
        }
    }
    Ok(pairs)
}

/// The first namespace of every NVMe controller, and the controller's function.
fn drives() -> Result<Vec<(PathBuf, Initiator)>> {
    let snapshot = Snapshot::read_in_full(Path::new("/sys"), None, &ConfigSpaces::default())?;
    let first = |nvme: &peermem_topology::Nvme| {
        let namespace = nvme.namespaces.first()?;
        Some((Path::new("/dev").join(namespace.to_string()), Initiator::Pci(nvme.address)))
    };
    Ok(snapshot.nvme.values().filter_map(first).collect())
}

fn test_pair(client: &Client, drive: &Path, initiator: &Initiator, region: &Region) -> Result<Outcome> {
    let size = Extent::Size(ByteLen::from_usize(LENGTH));
    let request = Map::new(region.name.clone(), size, [initiator.clone()], Direction::Write);
    let lease = match client.map(&request) {
        Ok(lease) => lease,
        Err(CallFailed::Answered(CallError::Refusal(refusal @ Refusal::NoRoute { .. }))) => {
            return Ok(Outcome::NoRoute { why: refusal.to_string() });
        }
        Err(CallFailed::Answered(CallError::Refusal(Refusal::BytesLost { found, .. }))) => {
            return Ok(Outcome::Lost { wrong: found });
        }
        Err(error) => return Err(error).with_context(|| format!("can't map {}", region.name)),
    };
    let outcome = move_bytes(&lease, drive);
    // Whether it can be given back says nothing of the bytes.
    let _ = lease.unmap();
    outcome
}

fn move_bytes(lease: &Lease, drive: &Path) -> Result<Outcome> {
    let named = || format!("can't read {}", drive.display());
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
    let source = File::options().read(true).custom_flags(direct).open(drive).with_context(named)?;
    let mapping = lease.mapping()?;
    let unlike = pattern::bytes(u64::from(std::process::id()), LENGTH);
    mapping.copy_from_slice(0, &unlike)?;
    match mapping.read_file(0, LENGTH, &source, 0) {
        Ok(()) => {}
        Err(DirectIoError::Refused(error)) => return Ok(Outcome::Refused { why: error.to_string() }),
        Err(error) => return Err(error).with_context(named),
    }
    let mut arrived = vec![0; LENGTH];
    mapping.copy_to_slice(0, &mut arrived)?;
    let mut expected = vec![0; LENGTH];
    File::open(drive).with_context(named)?.read_exact_at(&mut expected, 0).with_context(named)?;
    Ok(judge(&unlike, &arrived, &expected))
}

fn judge(unlike: &[u8], arrived: &[u8], expected: &[u8]) -> Outcome {
    if arrived == unlike {
        let wrong = format!("the drive reported success, and not one of {} bytes arrived", arrived.len());
        return Outcome::Lost { wrong };
    }
    match pattern::difference(arrived, expected) {
        None => Outcome::Arrived,
        Some((first, count)) => {
            let wrong = format!("{count} of {} bytes are wrong, the first at {first}", arrived.len());
            Outcome::Lost { wrong }
        }
    }
}

/// Prints what came of each pair.
pub(super) fn print(pairs: &[Pair], output: &Output) -> Result<()> {
    if output.is_json() {
        return output.json(&pairs);
    }
    if pairs.is_empty() {
        return output.line("no pair to test: it takes an NVMe drive and a region of p2pmem");
    }
    output.table(["drive", "of", "memory", "result"], pairs.iter().map(row))
}

fn row(pair: &Pair) -> [String; 4] {
    let result = match &pair.result {
        Outcome::Arrived => "every byte arrived".to_owned(),
        Outcome::Lost { wrong } => format!("LOST: {wrong}"),
        Outcome::NoRoute { .. } => "no route".to_owned(),
        Outcome::Refused { why } => format!("the kernel refused: {why}"),
        Outcome::Untested { why } => format!("untested: {why}"),
    };
    [pair.drive.display().to_string(), pair.initiator.to_string(), pair.region.to_string(), result]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_seen() {
        let (unlike, disk) = (pattern::bytes(1, 4096), pattern::bytes(2, 4096));
        assert_eq!(judge(&unlike, &disk, &disk), Outcome::Arrived);
        let Outcome::Lost { wrong } = judge(&unlike, &unlike, &disk) else {
            panic!("nothing arrived, unseen")
        };
        assert!(wrong.contains("not one of 4096"), "{wrong}");
        let mut torn = disk.clone();
        torn[512..].copy_from_slice(&unlike[512..]);
        let Outcome::Lost { wrong } = judge(&unlike, &torn, &disk) else { panic!("a torn read, unseen") };
        assert!(wrong.contains("the first at 51"), "{wrong}");
    }
}
