//! What a check says.

use std::fmt;

use serde::Serialize;

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Could not be seen.
    Unknown,
    /// Works, and costs something: speed, or a way that isn't open.
    Warn,
    /// Doesn't work.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's stable name, such as `acs-redirect`.
    pub check: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What it is about: a device, a bridge, a unit; `node` for the machine as a whole.
    pub about: String,
    /// What was measured.
    pub measured: String,
    /// Why it matters; nothing to say of what is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The one command or setting that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub(crate) fn pass(check: &'static str, about: impl ToString, measured: impl ToString) -> Self {
        let (about, measured) = (about.to_string(), measured.to_string());
        Self { check, verdict: Verdict::Pass, about, measured, why: None, fix: None }
    }

    /// It could not be seen.
    pub(crate) fn unknown(check: &'static str, about: impl ToString, measured: impl ToString) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::pass(check, about, measured) }
    }

    /// It works, and costs something.
    pub(crate) fn warn(
        check: &'static str,
        about: impl ToString,
        measured: impl ToString,
        why: impl ToString,
    ) -> Self {
        Self { verdict: Verdict::Warn, why: Some(why.to_string()), ..Self::pass(check, about, measured) }
    }

    /// It doesn't work.
    pub(crate) fn fail(
        check: &'static str,
        about: impl ToString,
        measured: impl ToString,
        why: impl ToString,
    ) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, about, measured, why) }
    }

    /// What mends it.
    pub(crate) fn fix(self, fix: impl ToString) -> Self {
        Self { fix: Some(fix.to_string()), ..self }
    }
}

/// How many findings of each verdict there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// As they should be.
    pub pass: usize,
    /// Could not be seen.
    pub unknown: usize,
    /// Cost something.
    pub warn: usize,
    /// Don't work.
    pub fail: usize,
}

impl Tally {
    /// Counts them.
    pub fn of(findings: &[Finding]) -> Self {
        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        Self {
            pass: count(Verdict::Pass),
            unknown: count(Verdict::Unknown),
            warn: count(Verdict::Warn),
            fail: count(Verdict::Fail),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pass, unknown, warn, fail } = self;
        write!(f, "{fail} failed, {warn} warned, {pass} passed, {unknown} could not be seen")
    }
}
