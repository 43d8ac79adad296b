//! Passing a lease on: the lease moves, with its memory, to whoever says the token first.
//!
//! It moves rather than being copied because two clients can't share every kind of memory: each mmap of `p2pmem/allocate`
//! is memory of its own (drivers/pci/p2pdma.c). What was booked for one owner is booked for the other afterwards.

use std::time::Duration;

use peermem_proto::{Action, Event, LeaseId, Refusal, Token};

use super::{
    Answer, Broker, Effect, MemoryId, Routes, SessionId,
    book::{Entry, Stage},
    broker::Effects,
    grant::initiators_of,
    permission::{ask, room_for, shared_with},
    timers::Timer,
};

/// How long a token is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(60);

impl<R: Routes> Broker<R> {
    pub(super) fn delegate(
        &mut self,
        session: SessionId,
        id: LeaseId,
        memory: MemoryId,
        token: Token,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        self.refuse_if_draining()?;
        let entry = self.book.own_lease(session, id)?;
        self.may_delegate(entry)?;
        // Whoever drives the initiator would go on reaching the new owner's memory.
        if let Some(path) = entry.lease.paths.iter().find(|path| path.dma.is_some()) {
            return Err(Refusal::InitiatorTaken { initiator: path.initiator.clone() });
        }
        if !matches!(entry.stage, Stage::Granted(granted) if granted == memory) {
            return Err(Refusal::NotTheMemory { lease: id });
        }
        let uid = entry.uid();
        self.drop_token(id, out);
        self.limits.check_descriptor(uid, self.book.users.of(uid))?;
        self.book.set_token(id, Some(token));
        let until = self.now.after(TOKEN_LIFE);
        self.tokens.insert(token, (id, until));
        self.timers.set(until, Timer::Token(token));
        Ok(Answer::Delegated(token))
    }

    pub(super) fn claim(
        &mut self,
        session: SessionId,
        token: Token,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        self.refuse_if_draining()?;
        let client = self.client_of(session)?;
        let (id, _) = *self.tokens.get(&token).ok_or(Refusal::UnknownToken {})?;
        let entry = self.book.lease(id).ok_or(Refusal::UnknownToken {})?;
        let (from, length) = (entry.lease.owner, entry.lease.length);
        let region = self.book.region(&entry.lease.region)?;
        // Whoever registered a region for themselves alone may hand a piece of it to somebody else.
        if region.owner_uid() != Some(from.uid) {
            shared_with(region, client.owner.uid)?;
        }
        let initiators = initiators_of(&entry.lease.paths);
        let allowed = ask(&self.policy, &client, Action::Map, &entry.lease.region, &initiators)?;
        // A user who passes a lease on to another process of theirs needs no room for a second one.
        if client.owner.uid != from.uid {
            room_for(&self.limits, &self.book.users, &self.book.usage, &allowed, length)?;
        }
        let latest = allowed.longest_lease().map(|longest| self.now.after(longest));
        let charge = Some(self.book.usage.add(&allowed, length));

        self.take_token(id);
        let Some(Entry { mut lease, stage, .. }) = self.book.forget(id) else {
            unreachable!("lease {id} was there")
        };
        lease.owner = client.owner;
        let expires_at = [lease.expires_at, latest].into_iter().flatten().min();
        self.book.reserve(Entry { lease, client, session: Some(session), stage, token: None, charge });
        self.set_expiry(id, expires_at);
        self.record_lease(id, out);
        self.announce(id, |lease| Event::LeaseDelegated { lease, from }, out);
        self.book.own_lease(session, id).map(|entry| Answer::Granted(entry.lease.clone()))
    }

    /// Takes back the token of a lease, if it has one, and the memory behind it.
    pub(super) fn drop_token(&mut self, id: LeaseId, out: &mut Effects) {
        out.extend(self.take_token(id).map(Effect::Forget));
    }

    fn take_token(&mut self, id: LeaseId) -> Option<Token> {
        let token = self.book.set_token(id, None)?;
        let (_, until) = self.tokens.remove(&token)?;
        self.timers.cancel(until, Timer::Token(token));
        Some(token)
    }
}
