//! Test data without a period: every byte depends on a seed and its own offset.
//!
//! A pattern that repeats can't show bytes that landed a page away from where they belong.

/// Eight bytes for one aligned offset (SplitMix64's output function over seed and position).
fn word(seed: u64, index: u64) -> [u8; 8] {
    let mut state = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state ^ (state >> 31)).to_le_bytes()
}

/// Fills `bytes` with what belongs at `offset`, counted in bytes from where the pattern starts.
pub fn fill(seed: u64, offset: u64, bytes: &mut [u8]) {
    let mut position = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let within = (position % 8) as usize;
        let source = &word(seed, position / 8)[within..];
        let (now, later) = rest.split_at_mut(source.len().min(rest.len()));
        now.copy_from_slice(&source[..now.len()]);
        position += now.len() as u64;
        rest = later;
    }
}

/// The pattern's first `len` bytes.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(seed, 0, &mut bytes);
    bytes
}

/// Where two buffers of one length first differ, and in how many bytes.
pub fn difference(found: &[u8], expected: &[u8]) -> Option<(usize, usize)> {
    let mut wrong = found.iter().zip(expected).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at);
    let first = wrong.next()?;
    Some((first, 1 + wrong.count()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_part_equals_the_same_bytes_of_the_whole(seed: u64, offset in 0_usize..100, len in 0_usize..100) {
            let whole = bytes(seed, 200);
            let mut part = vec![0; len];
            fill(seed, offset as u64, &mut part);
            prop_assert_eq!(&part[..], &whole[offset..offset + len]);
        }
    }

    #[test]
    fn no_two_pages_are_alike() {
        let whole = bytes(1, 256 * 4096);
        let pages: std::collections::HashSet<&[u8]> = whole.chunks(4096).collect();
        assert_eq!(pages.len(), 256);
    }

    #[test]
    fn differences_are_counted() {
        assert_eq!(difference(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(difference(&[1, 9, 9], &[1, 2, 3]), Some((1, 2)));
    }
}
