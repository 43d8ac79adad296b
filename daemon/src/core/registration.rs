//! Regions appear and go.

use peermem_proto::{Action, Event, Generation, LeaseEnd, Refusal, Region, RegionName};

use super::{
    Answer, Broker, Effect, Record, RegionSpec, Routes, SessionId,
    broker::Effects,
    permission::ask,
    region::{RegionOwner, RegionState},
};

impl<R: Routes> Broker<R> {
    /// A provider offers a region; one that is known already stays as it is.
    pub(super) fn found(&mut self, spec: RegionSpec, out: &mut Effects) {
        if !self.book.regions.contains_key(&spec.name) {
            self.add_region(spec, None, out);
        }
    }

    pub(super) fn register(
        &mut self,
        id: SessionId,
        spec: RegionSpec,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        self.refuse_if_draining()?;
        let client = self.client_of(id)?;
        ask(&self.policy, &client, Action::Register, &spec.name, &[])?;
        if self.book.regions.contains_key(&spec.name) {
            return Err(Refusal::RegionExists { region: spec.name });
        }
        let uid = client.owner.uid;
        self.limits.check_descriptor(uid, self.book.users.of(uid))?;
        let owner = RegionOwner { session: Some(id), client };
        Ok(Answer::Registered(self.add_region(spec, Some(owner), out)))
    }

    pub(super) fn unregister(
        &mut self,
        session: SessionId,
        name: &RegionName,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        if !self.book.region(name)?.is_owned_by(session) {
            return Err(Refusal::NotYours { what: format!("region {name}") });
        }
        self.drop_region(name, out);
        Ok(())
    }

    pub(super) fn add_region(
        &mut self,
        spec: RegionSpec,
        owner: Option<RegionOwner>,
        out: &mut Effects,
    ) -> Region {
        let region = RegionState::new(spec, self.next_generation(), owner);
        let described = region.describe();
        out.push(Effect::Record(Record::Region(region.record())));
        out.push(Effect::Announce(Event::RegionAdded { region: described.clone() }));
        self.book.add_region(region);
        described
    }

    fn next_generation(&mut self) -> Generation {
        let generation = self.next_generation;
        self.next_generation = generation.next();
        generation
    }

    /// A region goes, and every lease in it ends.
    pub(super) fn drop_region(&mut self, name: &RegionName, out: &mut Effects) {
        let Some(region) = self.book.regions.get(name) else { return };
        for lease in region.leases.clone() {
            self.end(lease, LeaseEnd::RegionGone, out);
        }
        self.book.remove_region(name);
        out.push(Effect::Record(Record::RegionGone { name: name.clone() }));
        out.push(Effect::Close(name.clone()));
        out.push(Effect::Announce(Event::RegionGone { name: name.clone() }));
    }
}
