//! Filling memory with known bytes, and comparing it with them.

use anyhow::Result;
use peermem::{Mapping, rdma::pattern};
use serde::{Deserialize, Serialize};

/// How much is copied at a time.
const CHUNK: usize = 64 * 1024;

/// Bytes after a transfer's end that must stay as they were: a device that strays mostly strays inside the next page.
const GUARD: usize = 4096;

/// Memory that can be filled and compared.
pub(in crate::commands) trait Place {
    /// How many bytes it has.
    fn size(&self) -> usize;
    /// Copies `bytes` in.
    fn put(&self, offset: usize, bytes: &[u8]) -> Result<()>;
    /// Copies `bytes` out.
    fn get(&self, offset: usize, bytes: &mut [u8]) -> Result<()>;
}

impl Place for Mapping {
    fn size(&self) -> usize {
        self.len()
    }

    fn put(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        Ok(self.copy_from_slice(offset, bytes)?)
    }

    fn get(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        Ok(self.copy_to_slice(offset, bytes)?)
    }
}

/// Where memory isn't as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct Wrong {
    /// The first wrong byte's offset.
    pub(super) first: usize,
    /// How many bytes are wrong.
    pub(super) count: usize,
}

/// Fills the first `length` bytes of `place`, and the guard after them, with the pattern of `seed`.
pub(in crate::commands) fn fill(place: &impl Place, seed: u64, length: usize) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    for (offset, size) in chunks(0, guarded(place, length)) {
        let chunk = &mut chunk[..size];
        pattern::fill(seed, offset as u64, chunk);
        place.put(offset, chunk)?;
    }
    Ok(())
}

/// Compares the first `length` bytes of `place` with the pattern of `seed`, and the guard after them with that of
/// `before`, which was there before the transfer.
pub(in crate::commands) fn compare(
    place: &impl Place,
    seed: u64,
    length: usize,
    before: u64,
) -> Result<Option<Wrong>> {
    let (mut found, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut wrong: Option<Wrong> = None;
    let end = guarded(place, length);
    let parts =
        chunks(0, length).map(|part| (seed, part)).chain(chunks(length, end).map(|part| (before, part)));
    for (seed, (offset, size)) in parts {
        let (found, expected) = (&mut found[..size], &mut expected[..size]);
        place.get(offset, found)?;
        pattern::fill(seed, offset as u64, expected);
        if let Some((first, count)) = pattern::difference(found, expected) {
            let earlier = wrong.unwrap_or(Wrong { first: offset + first, count: 0 });
            wrong = Some(Wrong { count: earlier.count + count, ..earlier });
        }
    }
    Ok(wrong)
}

fn guarded(place: &impl Place, length: usize) -> usize {
    length.saturating_add(GUARD).min(place.size())
}

/// `start..end` in pieces: offset and size of each.
fn chunks(start: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
    (start..end).step_by(CHUNK).map(move |offset| (offset, CHUNK.min(end - offset)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Memory of this process.
    pub(in super::super) struct Plain(pub(in super::super) Mutex<Vec<u8>>);

    impl Plain {
        pub(in super::super) fn new(size: usize) -> Self {
            Self(Mutex::new(vec![0; size]))
        }
    }

    impl Place for Plain {
        fn size(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn put(&self, offset: usize, bytes: &[u8]) -> Result<()> {
            self.0.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn get(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
            bytes.copy_from_slice(&self.0.lock().unwrap()[offset..offset + bytes.len()]);
            Ok(())
        }
    }

    #[test]
    fn what_was_filled_is_found() {
        let place = Plain::new(3 * CHUNK);
        for length in [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            fill(&place, 7, length).unwrap();
            assert_eq!(compare(&place, 7, length, 7).unwrap(), None, "{length} bytes");
            assert_eq!(compare(&place, 8, length, 7).unwrap().is_some(), length > 0);
        }
    }

    #[test]
    fn every_wrong_byte_counts_those_behind_the_end_too() {
        let place = Plain::new(2 * CHUNK);
        let length = CHUNK + 10;
        fill(&place, 1, length).unwrap();
        let flip = |at: usize| place.0.lock().unwrap()[at] ^= 0xff;
        flip(length + GUARD - 1);
        assert_eq!(
            compare(&place, 1, length, 1).unwrap(),
            Some(Wrong { first: length + GUARD - 1, count: 1 })
        );
        flip(5);
        flip(CHUNK + 1);
        assert_eq!(compare(&place, 1, length, 1).unwrap(), Some(Wrong { first: 5, count: 3 }));
    }
}
