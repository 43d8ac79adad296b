//! The socket: accept, credentials, requests into inputs of the core, effects into replies.
//!
//! One task a client; a slow, silent or hostile one holds up nobody else. All of them run on one thread and share the
//! [`Shell`], which is never borrowed across an await.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{net::UnixListener, sync::watch, task::JoinSet};

mod admission;
mod calls;
mod clock;
mod dax;
mod dispatch;
mod functions;
mod hotplug;
mod listen;
mod log;
mod memory;
mod metrics_http;
mod peer;
mod pool;
mod refused;
mod reload;
mod restart;
mod session;
mod shell;
mod timer;
mod topology;
mod users;

pub use dax::offered as offered_dax;
pub use hotplug::{follow_devices, offered};
pub use listen::{BindError, Guard, Listening, adopt, bind};
pub use memory::Memory;
pub use metrics_http::serve as serve_metrics;
pub use pool::{Work, work};
pub use restart::watch_waiting;
pub use shell::Shell;
pub use timer::keep_time;
pub use topology::LiveTopology;

/// The shell, as the tasks share it.
pub type Shared = Rc<RefCell<Shell>>;

/// How long to wait before the next `accept` when this process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves clients until `stop` turns true, then lets those that are in the middle of a reply finish it.
///
/// # Panics
/// Outside of a `tokio::task::LocalSet`.
pub async fn serve(shell: Shared, listener: UnixListener, mut stop: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    let for_clients = stop.clone();
    loop {
        tokio::select! {
            // A client that comes back early would be served by a daemon that goes, and told that its leases are somebody's.
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    sessions.spawn_local(session::serve(Rc::clone(&shell), stream, for_clients.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
    drop(listener);
    let drain = shell.borrow().bounds().drain;
    let all_done = async { while sessions.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all_done).await.is_err() {
        tracing::warn!(clients = sessions.len(), "clients didn't fetch their last replies in time");
    }
}
