//! A verdict's reason in words.

use peermem_proto::{Initiator, PciAddress, Route};

use crate::{
    explain::{Turn, Verdict},
    no_route::Joined,
};

/// Why the verdict is what it is, and what to do about it.
pub(crate) fn of(
    verdict: &Verdict,
    initiator: &Initiator,
    turn: Option<Turn>,
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
        Verdict::Accepted(Route::BusAddress { .. }) => within(turn, acs_unreadable),
    }
}

fn within(turn: Option<Turn>, acs_unreadable: &[PciAddress]) -> String {
    let place = match turn {
        Some(Turn::Function(bridge)) => format!("both are below {bridge}, or are it"),
        _ => "they share an upstream bridge".to_owned(),
    };
    if acs_unreadable.is_empty() {
        format!("{place}, and no port in between redirects")
    } else {
        format!(
            "{place}, and no port in between is known to redirect; the ACS of {} can't be read without CAP_SYS_ADMIN",
            Joined(acs_unreadable, ", ")
        )
    }
}
