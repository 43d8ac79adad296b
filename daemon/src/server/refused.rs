//! What a refusal leaves behind: a record, and an event for those who watch.

use std::{collections::HashMap, rc::Rc, time::Duration};

use peermem_proto::{
    Event, Initiator, LeaseId, Owner, RegionName,
    call::{self, Call},
    varlink::{CallError, CallMessage},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Shared, log, shell::Shell};
use crate::audit::{Kind, Record};

/// How many refusals of one user are told in one [`PERIOD`]: a client that is refused in a loop can't fill the journal, nor push
/// watchers past what is kept for them.
const TOLD: u64 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// The refusals of each user in the user's period. One begins with a refusal.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<u32, Count>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    all: u64,
    /// Of what watchers aren't told although they would want to know.
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Telling {
    /// The first of a period, which must be ended with [`Refusals::end`].
    First,
    Another,
    /// It is told that no more is told.
    Last,
    Withheld,
}

impl Refusals {
    /// Counts one; `news` if it is for watchers.
    fn count(&mut self, uid: u32, news: bool) -> Telling {
        let count = self.0.entry(uid).or_default();
        count.all += 1;
        count.left_out += u64::from(news && count.all > TOLD);
        match count.all {
            1 => Telling::First,
            2..=TOLD => Telling::Another,
            all if all == TOLD + 1 => Telling::Last,
            _ => Telling::Withheld,
        }
    }

    /// Ends a user's period: how many refusals weren't told, and how many of them were news.
    fn end(&mut self, uid: u32) -> (u64, u64) {
        let Count { all, left_out } = self.0.remove(&uid).unwrap_or_default();
        (all.saturating_sub(TOLD), left_out)
    }
}

/// Writes down that a call was refused, and tells the watchers. The metrics count every one.
///
/// # Panics
/// Outside of a `tokio::task::LocalSet`.
pub(super) fn refused(shared: &Shared, owner: Owner, call: &CallMessage<'_>, error: &CallError) {
    let mut shell = shared.borrow_mut();
    let news = is_news(call, error);
    match shell.refusals.count(owner.uid, news) {
        Telling::First => {
            let (shared, uid) = (Rc::clone(shared), owner.uid);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(PERIOD).await;
                shared.borrow_mut().sum_up_refusals(uid);
            });
            shell.tell_refusal(owner, call, error, news);
        }
        Telling::Another => shell.tell_refusal(owner, call, error, news),
        Telling::Last => {
            let message = format!(
                "user {} is refused more than {TOLD} times in {} s: the rest is counted and not told",
                owner.uid,
                PERIOD.as_secs()
            );
            shell.write_down(&Record::new(Kind::Withheld, owner, message));
        }
        Telling::Withheld => {}
    }
}

/// Whether somebody was refused something to have, which is for watchers.
fn is_news(call: &CallMessage<'_>, error: &CallError) -> bool {
    const TOLD: [&str; 5] = [
        call::Map::METHOD,
        call::Claim::METHOD,
        call::Register::METHOD,
        call::Delegate::METHOD,
        call::Revoke::METHOD,
    ];
    TOLD.contains(&&*call.method) && matches!(error, CallError::Refusal(_))
}

impl Shell {
    fn tell_refusal(&mut self, owner: Owner, call: &CallMessage<'_>, error: &CallError, news: bool) {
        let named = Named::of(call);
        self.write_down(&named.record(owner, call, error));
        if news {
            let name = named.region.or(named.name);
            self.announce(Event::Refused { owner, name, code: error.code(), message: error.to_string() });
        }
    }

    fn sum_up_refusals(&mut self, uid: u32) {
        let (withheld, left_out) = self.refusals.end(uid);
        if withheld > 0 {
            let message = format!(
                "{withheld} more calls of user {uid} were refused in the last {} s",
                PERIOD.as_secs()
            );
            self.write_down(&Record::of_user(Kind::Withheld, uid, message));
        }
        if left_out > 0 {
            self.announce(Event::RefusalsLeftOut { uid, count: left_out });
        }
    }
}

/// What a call is about, as far as it says so in words that can be.
#[derive(Default, Deserialize)]
struct Named {
    region: Option<RegionName>,
    name: Option<RegionName>,
    lease: Option<LeaseId>,
    #[serde(default)]
    initiators: Vec<Initiator>,
}

impl Named {
    fn of(call: &CallMessage<'_>) -> Self {
        call.parameters.and_then(|text| serde_json::from_str(RawValue::get(text)).ok()).unwrap_or_default()
    }

    fn record<'a>(&'a self, owner: Owner, call: &'a CallMessage<'_>, error: &CallError) -> Record<'a> {
        let wire = error.to_wire();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Record {
            region: self.region.as_ref().or(self.name.as_ref()).map(RegionName::as_str),
            initiator: log::join(self.initiators.iter()),
            lease: self.lease,
            method: Some(&call.method),
            code: text(&wire["error"]),
            rule: text(&wire["parameters"]["rule"]),
            ..Record::new(Kind::Refusal, owner, format!("call refused: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_s_refusals_are_told_up_to_a_point_and_then_summed_up() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.count(1, true), Telling::First);
        assert!((2..=TOLD).all(|_| refusals.count(1, true) == Telling::Another));
        assert_eq!(refusals.count(1, true), Telling::Last);
        assert!((0..10).all(|_| refusals.count(1, false) == Telling::Withheld));
        assert_eq!(refusals.count(2, true), Telling::First, "another user's are told");
        assert_eq!((refusals.end(1), refusals.end(2)), ((11, 1), (0, 0)));
        assert_eq!(refusals.count(1, true), Telling::First, "a new period");
    }
}
