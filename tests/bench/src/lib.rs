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
    /// The ratios of single turns, where the two sides took turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratios: Option<Spread>,
    /// What it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
}

/// From where to where some figures lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The least of them.
    pub least: f64,
    /// The greatest.
    pub most: f64,
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

    fn is_met_by(self, figure: f64) -> bool {
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

/// What becomes of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The figure, and every turn, keeps within it.
    Met,
    /// None does.
    Missed,
    /// Some turns do and others don't: another run may end the other way.
    Undecided,
}

impl Row {
    /// A figure by itself.
    pub fn new(what: impl Into<String>, ours: f64, unit: impl Into<String>) -> Self {
        Self { what: what.into(), ours, unit: unit.into(), baseline: None, ratios: None, goal: None }
    }

    /// The medians of two sides that took turns: the first of `ours` was measured beside the first of `theirs`, and so on.
    ///
    /// # Panics
    /// Without any turn.
    pub fn in_turns(
        what: impl Into<String>,
        ours: &[f64],
        unit: impl Into<String>,
        baseline: impl Into<String>,
        theirs: &[f64],
    ) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        let spread = Spread {
            least: ratios.clone().fold(f64::INFINITY, f64::min),
            most: ratios.fold(f64::NEG_INFINITY, f64::max),
        };
        let row = Self::new(what, median(ours.to_vec()), unit).against(baseline, median(theirs.to_vec()));
        Self { ratios: Some(spread), ..row }
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

    /// What becomes of the goal, if there is one.
    pub fn verdict(&self) -> Option<Verdict> {
        let goal = self.goal?;
        let is_met = goal.is_met_by(self.ratio().unwrap_or(self.ours));
        let agrees = |ratio| goal.is_met_by(ratio) == is_met;
        Some(match self.ratios {
            Some(Spread { least, most }) if !(agrees(least) && agrees(most)) => Verdict::Undecided,
            _ if is_met => Verdict::Met,
            _ => Verdict::Missed,
        })
    }

    /// Prints it where `cargo xtask bench` reads it.
    pub fn print(&self) {
        // Strings and numbers always become JSON.
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

/// The middle of some figures.
///
/// # Panics
/// Without any.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_about_the_ratio_where_there_is_one() {
        let row = Row::new("round trip", 50.0, "µs").goal(Goal::AtMost(2.5));
        assert_eq!((row.ratio(), row.verdict()), (None, Some(Verdict::Missed)));
        let row = row.against("floor", 20.0);
        assert_eq!((row.ratio(), row.verdict()), (Some(2.5), Some(Verdict::Met)));
        assert_eq!(Row::new("x", 1.0, "s").verdict(), None);
    }

    #[test]
    fn a_goal_among_the_turns_is_undecided() {
        let row = |ours: &[f64]| Row::in_turns("write", ours, "MB/s", "ib_write_bw", &[10.0, 20.0, 10.0]);
        let mixed = row(&[9.0, 22.0, 11.0]);
        assert_eq!((mixed.ours, mixed.ratio()), (11.0, Some(1.1)));
        assert_eq!(mixed.ratios, Some(Spread { least: 0.9, most: 1.1 }));
        let verdict = |row: Row| row.goal(Goal::AtLeast(1.0)).verdict();
        assert_eq!(verdict(mixed), Some(Verdict::Undecided));
        assert_eq!(verdict(row(&[10.0, 21.0, 12.0])), Some(Verdict::Met));
        assert_eq!(verdict(row(&[9.0, 19.0, 8.0])), Some(Verdict::Missed));
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
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
