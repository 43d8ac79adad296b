//! The daemon: there, and of this version.

use crate::{Finding, facts::Facts};

const CHECK: &str = "daemon";

pub(super) fn reachable(facts: &Facts) -> Finding {
    let daemon = match &facts.daemon {
        Ok(daemon) => daemon,
        Err(unseen) => {
            // Why it can't be reached, and what mends that, is in the client's own words.
            return Finding::warn(CHECK, "peermemd", unseen, "without the daemon nothing can be leased");
        }
    };
    let (theirs, ours) = (&daemon.status.version, env!("CARGO_PKG_VERSION"));
    let measured = format!("version {theirs} answers at {}, {} regions", daemon.socket, daemon.regions.len());
    if daemon.status.draining {
        let why = "it is stopping, and grants nothing more";
        return Finding::warn(CHECK, "peermemd", measured, why).fix("systemctl start peermemd");
    }
    if theirs != ours {
        let why = format!("this is version {ours}: what one knows the other may not");
        return Finding::warn(CHECK, "peermemd", measured, why)
            .fix("update the older one, then restart peermemd");
    }
    Finding::pass(CHECK, "peermemd", measured)
}
