//! What is written down.

use peermem_proto::{LeaseId, Owner};

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody was given memory.
    Grant,
    /// Somebody was refused something.
    Refusal,
    /// Refusals of somebody aren't told one by one.
    Withheld,
}

impl Kind {
    /// As the field `AUDIT` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Refusal => "refusal",
            Self::Withheld => "withheld",
        }
    }
}

/// One decision, in words and in fields. What doesn't apply is absent.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Grant or refusal.
    pub kind: Kind,
    /// Whose.
    pub uid: u32,
    /// Of which process.
    pub pid: Option<u32>,
    /// The region that it is about.
    pub region: Option<&'a str>,
    /// The initiators, with commas in between.
    pub initiator: Option<String>,
    /// The lease that it is about.
    pub lease: Option<LeaseId>,
    /// The call that was refused.
    pub method: Option<&'a str>,
    /// The refusal's code.
    pub code: Option<String>,
    /// The rule of the policy that refused.
    pub rule: Option<String>,
    /// All of it in a sentence.
    pub message: String,
}

impl<'a> Record<'a> {
    /// A record of a client, with nothing but the sentence.
    pub fn new(kind: Kind, owner: Owner, message: String) -> Self {
        Self { pid: Some(owner.pid), ..Self::of_user(kind, owner.uid, message) }
    }

    /// A record of a user, with nothing but the sentence.
    pub fn of_user(kind: Kind, uid: u32, message: String) -> Self {
        Self {
            kind,
            uid,
            pid: None,
            region: None,
            initiator: None,
            lease: None,
            method: None,
            code: None,
            rule: None,
            message,
        }
    }

    /// The fields that apply, by their names in the log.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, String)> + use<'_, 'a> {
        let owned = |text: &str| text.to_owned();
        [
            ("audit", Some(owned(self.kind.name()))),
            ("uid", Some(self.uid.to_string())),
            ("pid", self.pid.as_ref().map(ToString::to_string)),
            ("region", self.region.map(owned)),
            ("initiator", self.initiator.clone()),
            ("lease", self.lease.as_ref().map(ToString::to_string)),
            ("method", self.method.map(owned)),
            ("code", self.code.clone()),
            ("rule", self.rule.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Writes it to the log.
    pub(super) fn log(&self) {
        tracing::info!(
            audit = self.kind.name(),
            uid = self.uid,
            pid = self.pid,
            region = self.region,
            initiator = self.initiator,
            lease = self.lease.map(tracing::field::display),
            method = self.method,
            code = self.code,
            rule = self.rule,
            "{}",
            self.message
        );
    }
}
