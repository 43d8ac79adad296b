//! What systemd keeps of a function, by name.

use std::fmt;

use peermem_proto::{ByteLen, ByteRange, PciAddress};

use crate::{fd_store::FdName, sys::vfio::BarIndex};

/// One descriptor of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// The device; of an initiator perhaps one that this user has too.
    Device(Option<u32>),
    /// Its IOMMU group.
    Group,
    /// The container that the group is in.
    Container,
    /// The iommufd, instead of these two, with its address space's number.
    Iommufd(u32),
    /// The dma-buf of a window.
    Window(BarIndex, ByteRange),
}

impl Kept {
    /// What it is called in the store: `vfio-0000.5e.00.0-window-2-1000-4000`. A PCI address is written without colons, which
    /// systemd doesn't take.
    pub(super) fn name(self, device: PciAddress) -> FdName {
        let text = format!("vfio-{}-{self}", device.to_string().replace(':', "."));
        text.parse().unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// What that name means, unless it means something else.
    pub(super) fn parse(name: &FdName) -> Option<(PciAddress, Self)> {
        let (device, what) = name.as_str().strip_prefix("vfio-")?.split_once('-')?;
        // Of the three dots the last is the address's own.
        let device = device.replacen('.', ":", 2).parse().ok()?;
        let mut parts = what.split('-');
        let kept = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            ("device", None, None, None) => Self::Device(None),
            ("device", Some(uid), None, None) => Self::Device(Some(uid.parse().ok()?)),
            ("group", None, None, None) => Self::Group,
            ("container", None, None, None) => Self::Container,
            ("iommufd", Some(space), None, None) => Self::Iommufd(space.parse().ok()?),
            ("window", Some(bar), Some(offset), Some(length)) => {
                let [offset, length] = [hex(offset)?, hex(length)?].map(ByteLen::new);
                Self::Window(BarIndex::new(bar.parse().ok()?)?, ByteRange::new(offset, length)?)
            }
            _ => return None,
        };
        Some((device, kept)).filter(|_| parts.next().is_none())
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(None) => f.write_str("device"),
            Self::Device(Some(uid)) => write!(f, "device-{uid}"),
            Self::Group => f.write_str("group"),
            Self::Container => f.write_str("container"),
            Self::Iommufd(space) => write!(f, "iommufd-{space}"),
            Self::Window(bar, range) => {
                let (offset, length) = (range.offset().get(), range.length().get());
                write!(f, "window-{}-{offset:x}-{length:x}", bar.get())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_kept() {
        let device = "10000:5e:00.1".parse().unwrap();
        let range = ByteRange::new(ByteLen::new(0x1000), ByteLen::new(0x4000)).unwrap();
        let window = Kept::Window(BarIndex::new(2).unwrap(), range);
        let devices = [Kept::Device(None), Kept::Device(Some(1000))];
        let spaces = [Kept::Group, Kept::Container, Kept::Iommufd(3)];
        for kept in devices.into_iter().chain(spaces).chain([window]) {
            assert_eq!(Kept::parse(&kept.name(device)), Some((device, kept)));
        }
        assert_eq!(window.name(device).as_str(), "vfio-10000.5e.00.1-window-2-1000-4000");
    }

    #[test]
    fn other_names_mean_something_else() {
        for text in [
            "vfio-0000.01.00.0-iommufd",
            "region-7",
            "vfio-0000.01.00.0",
            "vfio-0000.01.00.0-window-9-0-1000",
            "vfio-x-group",
        ] {
            assert_eq!(Kept::parse(&text.parse().unwrap()), None, "{text}");
        }
    }
}
