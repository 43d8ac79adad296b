//! What moves: 16 MiB, in pieces of several sizes.

use peermem::{Mapping, rdma::pattern};

/// Each piece takes all four hops before the next. Page multiples, as on-demand paging on soft-RoCE needs.
pub(crate) const PIECES: [usize; 5] = [4 << 10, 60 << 10, 960 << 10, 3 << 20, 12 << 20];

/// All of it, in bytes.
pub(crate) const TOTAL: usize = 16 << 20;

const _: () = {
    let (mut sum, mut i) = (0, 0);
    while i < PIECES.len() {
        sum += PIECES[i];
        i += 1;
    }
    assert!(sum == TOTAL);
};

/// The pieces, as offset and length.
pub(crate) fn pieces() -> impl Iterator<Item = (usize, usize)> {
    PIECES.into_iter().scan(0, |offset, length| {
        let start = *offset;
        *offset += length;
        Some((start, length))
    })
}

/// How many of these bytes aren't the pattern's.
pub(crate) fn wrong_bytes(seed: u64, offset: usize, found: &[u8]) -> usize {
    let mut expected = vec![0; found.len()];
    pattern::fill(seed, offset as u64, &mut expected);
    pattern::difference(found, &expected).map_or(0, |(_, wrong)| wrong)
}

/// How many bytes of device memory aren't the pattern's.
///
/// # Errors
/// When the range leaves the mapping.
pub(crate) fn wrong_in(
    mapping: &Mapping,
    seed: u64,
    offset: usize,
    length: usize,
) -> Result<usize, peermem::CopyError> {
    let mut found = vec![0; length];
    mapping.copy_to_slice(offset, &mut found)?;
    Ok(wrong_bytes(seed, offset, &found))
}
