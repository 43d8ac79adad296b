//! Who may connect, watch and ask, and how often.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use peermem_proto::{Event, Refusal};
use tokio::sync::broadcast;

use super::shell::Shell;
use crate::{
    config::Connections,
    core::{Client, Input, SessionId},
};

/// How many clients that aren't admitted are told why at a time; more are hung up on.
const MOST_TURNED_AWAY: usize = 64;

impl Shell {
    /// What connections may cost.
    pub fn bounds(&self) -> Connections {
        self.users.bounds()
    }

    /// Begins a session, unless the user has too many.
    pub(super) fn connect(&mut self, client: &Client) -> Result<SessionId, Refusal> {
        self.users.connect(client.owner.uid, Instant::now())?;
        let session = SessionId(self.number());
        self.run(Input::Connected(session, client.clone()));
        self.metrics.connected();
        Ok(session)
    }

    /// Ends a session and everything it had.
    pub(super) fn disconnect(&mut self, session: SessionId, uid: u32) {
        self.run(Input::Disconnected(session));
        self.users.disconnect(uid);
    }

    /// Whether another client that isn't admitted may be told why. Each costs descriptors until it has asked.
    pub(super) fn begin_turning_away(&mut self) -> bool {
        let room = self.turned_away < MOST_TURNED_AWAY;
        self.turned_away += usize::from(room);
        room
    }

    /// A client that wasn't admitted has been told.
    pub(super) fn end_turning_away(&mut self) {
        self.turned_away -= 1;
    }

    /// How long the user's next request must wait for its turn.
    pub(super) fn turn_of(&mut self, uid: u32) -> Option<Duration> {
        let wait = self.users.request(uid, Instant::now());
        if wait.is_some() {
            self.metrics.delayed();
        }
        wait
    }

    /// Lets a client watch, until [`Self::unwatch`].
    pub(super) fn watch(&mut self, session: SessionId) -> Result<broadcast::Receiver<Rc<Event>>, Refusal> {
        let uid = self.broker.may_watch(session)?;
        self.users.watch(uid)?;
        Ok(self.subscribe())
    }

    pub(super) fn unwatch(&mut self, uid: u32) {
        self.users.unwatch(uid);
    }
}
