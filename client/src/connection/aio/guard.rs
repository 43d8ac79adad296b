//! The task that comes back for what an idle client has.

use std::sync::{Arc, Weak};

use tokio::{io::Interest, net::UnixStream, time};

use super::Shared;
use crate::connection::line::Next;

/// Runs until the client is gone, which it holds only while it comes back.
pub(super) async fn run(client: Weak<Shared>, mut socket: Arc<UnixStream>) {
    loop {
        // This interest is in urgent data, for which tokio watches no Unix socket, and in the end of the stream: replies
        // don't wake the task.
        if socket.ready(Interest::PRIORITY).await.is_err() {
            return;
        }
        let Some(client) = client.upgrade() else { return };
        let next = client.line.lock().await.look_after(&socket).await;
        drop(client);
        match next {
            Next::Wait(current) => socket = current,
            Next::Retry(pause) => time::sleep(pause).await,
            Next::Stop => return,
        }
    }
}
