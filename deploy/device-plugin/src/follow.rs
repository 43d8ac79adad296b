//! Keeping the offer as the daemon's regions are.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use peermem::aio::Client;
use peermem::proto::Region;
use peermem::{CallFailed, ConnectError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::offer::{NumaNode, Offer};

/// How long a daemon that has gone is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Why the daemon's regions aren't known any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Call(#[from] CallFailed),
    #[error("the daemon ended the stream of events")]
    Ended,
}

/// Keeps `offer` as the regions of the daemon at `socket` are, for ever: a daemon that isn't there may come.
///
/// `sysfs` is where the kernel says which NUMA node a PCI function is near to, usually `/sys`.
pub async fn follow(socket: &Path, sysfs: &Path, offer: &watch::Sender<Offer>) -> Infallible {
    let mut told = false;
    loop {
        let Err(lost) = follow_connection(socket, sysfs, offer).await;
        // Once for each time that it goes.
        told &= !offer.send_if_modified(Offer::lose);
        if !told {
            tracing::warn!(
                error = &lost as &dyn Error,
                "no daemon: its regions are unhealthy until it is there"
            );
            told = true;
        }
        sleep(RETRY).await;
    }
}

async fn follow_connection(
    socket: &Path,
    sysfs: &Path,
    offer: &watch::Sender<Offer>,
) -> Result<Infallible, Lost> {
    let near = |region: &Region| numa_node(sysfs, region);
    let client = Client::connect_to(socket).await?;
    // Before the list, so that no change falls between the two: an event that the list shows already changes nothing.
    let mut events = client.watch().await?;
    let listed = Offer::of(&client.regions().await?, near);
    tracing::info!(regions = listed.len(), "following the daemon at {}", socket.display());
    offer.send_replace(listed);
    loop {
        let event = events.next().await.ok_or(Lost::Ended)??;
        offer.send_if_modified(|offer| offer.apply(&event, near));
    }
}

/// The kernel says -1 where it doesn't know.
fn numa_node(sysfs: &Path, region: &Region) -> NumaNode {
    let file = sysfs.join("bus/pci/devices").join(region.device?.to_string()).join("numa_node");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
