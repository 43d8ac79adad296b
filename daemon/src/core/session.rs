//! Sessions: who is connected, and what hangs on the connection.

use std::{collections::BTreeSet, sync::Arc};

use peermem_proto::{LeaseId, RegionName};

use super::Client;

/// One connection and what it holds.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Arc<Client>,
    pub(super) leases: BTreeSet<LeaseId>,
    pub(super) regions: BTreeSet<RegionName>,
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), leases: BTreeSet::new(), regions: BTreeSet::new() }
    }
}
