//! Lets happen what is due by itself: expiries and ends of grace.

use std::{future, rc::Rc};

use tokio::time::sleep;

use super::{Shared, clock};

/// Wakes the core at its deadlines, for ever. Without one it sleeps.
pub async fn keep_time(shell: Shared) {
    let changed = Rc::clone(&shell.borrow().deadline_changed);
    loop {
        let deadline = shell.borrow_mut().tick();
        let due = async {
            match deadline {
                // Not before its millisecond has begun: a tick that comes too early would come again at once.
                Some(at) => sleep(at.since(clock::now())).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = changed.notified() => {}
        }
    }
}
