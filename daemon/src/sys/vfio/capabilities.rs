//! The chains of capabilities that some of VFIO's answers end in (`struct vfio_info_cap_header`).

use thiserror::Error;

/// More capabilities than there are kinds: a chain that is longer is a loop.
const MAX: usize = 32;

/// An answer isn't what the header describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the kernel's answer ends early, or leads nowhere")]
pub struct Malformed;

/// The capabilities of an answer, of which `first` is the first one's offset, 0 for none: their kinds, and all bytes from their
/// headers on, since the chain doesn't say how long each is.
pub(super) fn chain(bytes: &[u8], first: u64) -> Result<Vec<(u64, &[u8])>, Malformed> {
    let mut found = Vec::new();
    let mut offset = first;
    while offset != 0 && found.len() < MAX {
        let at = usize::try_from(offset).map_err(|_| Malformed)?;
        let capability = bytes.get(at..).ok_or(Malformed)?;
        found.push((number::<2>(capability, 0)?, capability));
        offset = number::<4>(capability, 4)?;
    }
    Ok(found)
}

/// A number of `N` bytes, 2, 4 or 8, in the host's order.
pub(super) fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    let bytes: &[u8; N] = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
    let mut wide = [0; 8];
    if cfg!(target_endian = "little") {
        wide[..N].copy_from_slice(bytes);
    } else {
        wide[8 - N..].copy_from_slice(bytes);
    }
    Ok(u64::from_ne_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: u16, next: u32) -> Vec<u8> {
        [&kind.to_ne_bytes()[..], &1_u16.to_ne_bytes(), &next.to_ne_bytes()].concat()
    }

    #[test]
    fn a_chain_is_followed_to_its_end_and_a_loop_is_left() {
        let kinds = |bytes: &[u8], first| {
            chain(bytes, first).map(|found| found.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>())
        };
        let bytes = [link(7, 16), link(9, 0), link(8, 8)].concat();
        assert_eq!(kinds(&bytes, 0), Ok(vec![]));
        // Offset 0 is the answer's own head, so that no link leads there.
        assert_eq!(kinds(&bytes, 16), Ok(vec![8, 9]));
        assert_eq!(kinds(&[link(7, 8), link(9, 8)].concat(), 8).unwrap().len(), MAX);
    }

    #[test]
    fn a_link_into_nothing_is_malformed() {
        assert_eq!(chain(&link(7, 0), 8), Err(Malformed));
        assert_eq!(chain(&link(7, 0), u64::MAX), Err(Malformed));
        assert_eq!(chain(&link(7, 0)[..6], 2), Err(Malformed));
    }
}
