//! A verdict's reason in words.

use peermem_proto::{Initiator, PciAddress, Route};

use crate::{explain::Verdict, no_route::Joined, way::Way};

/// Why the verdict is what it is, and what to do about it.
pub(crate) fn of(
    verdict: &Verdict,
    initiator: &Initiator,
    way: Option<&Way>,
    acs_unreadable: &[PciAddress],
) -> String {
    match verdict {
        Verdict::Refused(refusal) => refusal.to_string(),
        Verdict::Accepted(Route::Software {}) => {
            format!("{initiator} isn't a PCI device: a CPU copies, and no device reaches another")
        }
        Verdict::Accepted(Route::HostBridge { bridge, redirected_by }) if redirected_by.is_empty() => {
            format!(
                "they share no upstream bridge, and the kernel knows host bridge {bridge} to pass peer-to-peer traffic"
            )
        }
        Verdict::Accepted(Route::HostBridge { bridge, redirected_by }) => format!(
            "ACS redirects peer-to-peer traffic to host bridge {bridge}, which passes it, at {}: to take the shorter way, \
             boot with pci=disable_acs_redir={}, which gives up the isolation between the devices below",
            Joined(redirected_by, " and "),
            Joined(redirected_by, ";")
        ),
        Verdict::Accepted(Route::Iommu {}) => format!(
            "{initiator} belongs to user space: its IOMMU translates what it emits, and has nothing against peers"
        ),
        Verdict::Accepted(Route::BusAddress { .. }) => within(way, acs_unreadable),
    }
}

fn within(way: Option<&Way>, acs_unreadable: &[PciAddress]) -> String {
    let place = match way {
        Some(Way { up, down, .. }) if up.is_empty() && down.is_empty() => {
            "it is the same function".to_owned()
        }
        Some(Way { up, down, .. }) if up.is_empty() || down.is_empty() => "one is below the other".to_owned(),
        Some(Way { meet: Some(bridge), .. }) => format!("both are below {bridge}"),
        _ => "they share an upstream bridge".to_owned(),
    };
    if acs_unreadable.is_empty() {
        format!("{place}, and no port on the way redirects")
    } else {
        format!(
            "{place}, and no port on the way is known to redirect; the ACS of {} can't be read without CAP_SYS_ADMIN",
            Joined(acs_unreadable, ", ")
        )
    }
}
