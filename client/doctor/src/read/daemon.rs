//! The daemon, as far as it answers.

use std::{path::Path, time::Duration};

use peermem::Client;

use super::in_words;
use crate::facts::{Daemon, Seen};

/// Longer than a daemon that is well ever takes.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn ask(socket: Option<&Path>) -> Seen<Daemon> {
    let client = match socket {
        Some(path) => Client::connect_to(path),
        None => Client::connect(),
    };
    let client = client.map_err(|error| in_words(&error))?;
    client.set_timeout(PATIENCE);
    let status = client.status().map_err(|error| in_words(&error))?;
    Ok(Daemon {
        socket: client.socket().display().to_string(),
        status,
        regions: client.regions().map_err(|error| in_words(&error))?,
    })
}
