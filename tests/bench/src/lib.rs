//! What a benchmark tells: rows, each a figure beside its baseline.
//!
//! A benchmark is a program that prints one [`Row`] a line, as JSON, on its standard output. `cargo xtask bench` runs them,
//! on this machine or in a guest, and makes the tables and plots.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The figure of peermem.
    pub ours: f64,
    /// The unit of `ours` and of the baseline, such as `µs`.
    pub unit: String,
    /// What it is held against, where that isn't a number by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// What it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
}

/// What a figure is held against, measured in the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What was measured.
    pub what: String,
    /// Its figure.
    pub value: f64,
}

/// A bound: on the ratio where there is a baseline, and on the figure itself where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Goal {
    /// The bound.
    pub fn bound(self) -> f64 {
        match self {
            Self::AtMost(bound) | Self::AtLeast(bound) => bound,
        }
    }

    /// Whether a figure keeps within it.
    pub fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtMost(bound) => figure <= bound,
            Self::AtLeast(bound) => figure >= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
        }
    }
}

impl Row {
    /// A figure by itself.
    pub fn new(what: impl Into<String>, ours: f64, unit: impl Into<String>) -> Self {
        Self { what: what.into(), ours, unit: unit.into(), baseline: None, goal: None }
    }

    /// The same, held against something.
    #[must_use]
    pub fn against(self, what: impl Into<String>, value: f64) -> Self {
        Self { baseline: Some(Baseline { what: what.into(), value }), ..self }
    }

    /// The same with a goal.
    #[must_use]
    pub fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Ours divided by the baseline.
    pub fn ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.ours / baseline.value)
    }

    /// Whether the goal is met, if there is one.
    pub fn meets_goal(&self) -> Option<bool> {
        self.goal.map(|goal| goal.is_met_by(self.ratio().unwrap_or(self.ours)))
    }

    /// Prints it where `cargo xtask bench` reads it.
    pub fn print(&self) {
        // Strings and numbers always become JSON.
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_about_the_ratio_where_there_is_one() {
        let row = Row::new("round trip", 50.0, "µs").goal(Goal::AtMost(2.5));
        assert_eq!((row.ratio(), row.meets_goal()), (None, Some(false)));
        let row = row.against("floor", 20.0);
        assert_eq!((row.ratio(), row.meets_goal()), (Some(2.5), Some(true)));
        assert_eq!(Row::new("x", 1.0, "s").meets_goal(), None);
    }

    #[test]
    fn a_row_can_be_written_by_hand() {
        let text = r#"{"what":"write, 4 KiB","ours":97.5,"unit":"MB/s","baseline":{"what":"ib_write_bw","value":95},"goal":{"at_least":1}}"#;
        let row: Row = serde_json::from_str(text).unwrap();
        assert_eq!(
            row,
            Row::new("write, 4 KiB", 97.5, "MB/s").against("ib_write_bw", 95.0).goal(Goal::AtLeast(1.0))
        );
    }
}
