//! Who is on the other side of a connection, as the kernel vouches for it.

use peermem_proto::Owner;
use serde::{Deserialize, Serialize};

/// A client process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its user, group and process id.
    pub owner: Owner,
    /// All its groups.
    pub gids: Vec<u32>,
    /// Tells the process apart from a later one with the same id: the inode of its pidfd, where the kernel gives each process
    /// one of its own (pidfs, 6.9 and newer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u64>,
}

impl Client {
    /// Whether both are the same process. Before pidfs, a process that took over a dead one's id within the grace period and
    /// belongs to the same user is taken for it.
    pub fn is_same_process(&self, other: &Self) -> bool {
        (self.owner.uid, self.owner.pid, self.process) == (other.owner.uid, other.owner.pid, other.process)
    }
}
