//! Whether an extent fits a region.

use peermem_proto::{ByteLen, ByteRange, Extent, Refusal, Shape};

use super::region::RegionState;

/// The range that `extent` means in this region. In a pool it starts at 0, and only its length counts.
pub(super) fn resolve(region: &RegionState, extent: Extent) -> Result<ByteRange, Refusal> {
    let spec = &region.spec;
    let name = || spec.name.clone();
    let bad = |why: &str| Refusal::BadExtent { why: why.to_owned() };

    let (offset, length) = match (spec.shape, extent) {
        (Shape::Pool, Extent::Size(size)) => (ByteLen::ZERO, size),
        (Shape::Pool, Extent::Range(_)) => {
            return Err(bad("a pool chooses the place itself: give a length and no offset"));
        }
        (Shape::Pool, Extent::Whole) => return Err(bad("a pool is asked by size: give a length")),
        (Shape::Window, Extent::Size(size)) => (ByteLen::ZERO, size),
        (Shape::Window, Extent::Range(range)) => (range.offset(), range.length()),
        (Shape::Window, Extent::Whole) => (ByteLen::ZERO, spec.size),
    };
    if length.is_zero() {
        return Err(Refusal::ZeroLength { region: name(), alignment: spec.alignment });
    }
    for (field, value) in [("offset", offset), ("length", length)] {
        if !value.is_aligned(spec.alignment) {
            let (field, alignment) = (field.to_owned(), spec.alignment);
            return Err(Refusal::NotAligned { region: name(), field, value, alignment });
        }
    }
    let range = ByteRange::new(offset, length).ok_or_else(|| bad("offset + length exceeds 2^64 - 1"))?;
    match spec.shape {
        Shape::Window if range.end() > spec.size => {
            Err(Refusal::OutOfRange { region: name(), end: range.end().get(), size: spec.size })
        }
        Shape::Pool if length > region.free() => {
            Err(Refusal::NotEnoughSpace { region: name(), requested: length, free: region.free() })
        }
        _ => Ok(range),
    }
}
