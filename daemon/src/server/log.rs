//! What the log says of leases: one line a decision, its parts as fields.

use std::fmt::{self, Write};

use peermem_proto::{Event, Initiator, Lease};

use crate::audit::{Kind, Record};

/// The record of a grant, where it is one: who has got memory.
pub(super) fn grant(event: &Event) -> Option<Record<'_>> {
    let (lease, how) = match event {
        Event::LeaseGranted { lease } => (lease, "granted".to_owned()),
        Event::LeaseDelegated { lease, from } => {
            (lease, format!("passed on by user {} (process {})", from.uid, from.pid))
        }
        _ => return None,
    };
    let message = format!("lease {} {how}: {}", lease.id, What(lease));
    Some(Record {
        lease: Some(lease.id),
        region: Some(lease.region.as_str()),
        initiator: Some(initiators(lease)),
        ..Record::new(Kind::Grant, lease.owner, message)
    })
}

/// Says what else happened to a lease.
pub(super) fn event(event: &Event) {
    match event {
        Event::LeaseRenewed { lease } => tracing::debug!(
            lease = %lease.id, region = %lease.region, uid = lease.owner.uid, pid = lease.owner.pid,
            "lease {} renewed", lease.id
        ),
        Event::LeaseRevoked { lease } => tell(lease, None, format_args!("revoked: {}", lease.state)),
        Event::LeaseOverdue { lease } => tracing::warn!(
            lease = %lease.id, region = %lease.region, uid = lease.owner.uid, pid = lease.owner.pid,
            "lease {} is overdue: it was revoked, and process {} keeps the memory", lease.id, lease.owner.pid
        ),
        Event::LeaseResumed { lease } => tell(lease, None, format_args!("resumed")),
        Event::LeaseEnded { lease, reason } => {
            tell(lease, Some(reason.name()), format_args!("ended: {reason}"));
        }
        Event::RegionGone { name } => tracing::info!(region = %name, "region {name} is gone"),
        // Said where it is known more about them.
        Event::RegionAdded { .. } | Event::Refused { .. } | Event::RefusalsLeftOut { .. } => {}
        Event::LeaseGranted { .. } | Event::LeaseDelegated { .. } => {}
    }
}

fn tell(lease: &Lease, reason: Option<&str>, what: fmt::Arguments<'_>) {
    tracing::info!(
        lease = %lease.id, region = %lease.region, initiator = initiators(lease),
        uid = lease.owner.uid, pid = lease.owner.pid, reason,
        "lease {} {what}", lease.id
    );
}

fn initiators(lease: &Lease) -> String {
    join(lease.paths.iter().map(|path| &path.initiator)).unwrap_or_default()
}

/// The initiators of a call or a lease, where there are any.
pub(super) fn join<'a>(initiators: impl Iterator<Item = &'a Initiator>) -> Option<String> {
    let mut names = String::new();
    for initiator in initiators {
        let comma = if names.is_empty() { "" } else { "," };
        // A string takes everything.
        let _ = write!(names, "{comma}{initiator}");
    }
    (!names.is_empty()).then_some(names)
}

/// How much of which region, and for whom.
struct What<'a>(&'a Lease);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lease { length, region, paths, .. } = self.0;
        write!(f, "{length} of {region}")?;
        for (i, path) in paths.iter().enumerate() {
            write!(f, "{}{path}", if i == 0 { " for " } else { " and for " })?;
        }
        Ok(())
    }
}
