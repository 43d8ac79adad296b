//! Rows for people to read.

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use peermem_bench::{Row, Spread, Verdict};

/// A line below the header and no others.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle {
    left: None,
    fill: Some('─'),
    junction: Some('─'),
    right: None,
});

/// The rows as a table, both sides of each and their ratio.
pub(super) fn draw(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(["", "ours", "baseline", "", "ratio", "goal", ""]);
    for row in rows {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let (name, baseline) = match &row.baseline {
            Some(baseline) => (baseline.what.clone(), amount(baseline.value, &row.unit)),
            None => Default::default(),
        };
        table.add_row([
            Cell::new(&row.what),
            right(amount(row.ours, &row.unit)),
            right(baseline),
            Cell::new(name),
            right(ratio(row).unwrap_or_default()),
            right(goal(row).unwrap_or_default()),
            Cell::new(row.verdict().map_or("", mark)),
        ]);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The rows as a table in Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = "| what | ours | baseline | ratio | goal |\n|---|---:|---:|---:|---:|\n".to_owned();
    for row in rows {
        let baseline = row.baseline.as_ref();
        let baseline = baseline.map(|other| format!("{}, {}", amount(other.value, &row.unit), other.what));
        let goal = goal(row).map(|goal| match row.verdict() {
            Some(Verdict::Missed) => format!("{goal}: missed"),
            Some(Verdict::Undecided) => format!("{goal}: undecided"),
            Some(Verdict::Met) | None => goal,
        });
        let [baseline, ratio, goal] = [baseline, ratio(row), goal].map(Option::unwrap_or_default);
        let ours = amount(row.ours, &row.unit);
        text += &format!("| {} | {ours} | {baseline} | {ratio} | {goal} |\n", row.what);
    }
    text
}

/// A figure with three significant digits, as far as it has them, and its unit.
pub(super) fn amount(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        small if small < 10.0 && small.fract() != 0.0 => 2,
        middle if middle < 100.0 && middle.fract() != 0.0 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    format!("{}{rest} {unit}", thousands(whole))
}

/// `1234567` as `1,234,567`.
fn thousands(digits: &str) -> String {
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The row's ratio, and between which those of single turns lie.
pub(super) fn ratio(row: &Row) -> Option<String> {
    let ratio = times(row.ratio()?);
    Some(match row.ratios {
        Some(Spread { least, most }) => format!("{ratio} ({} to {})", times(least), times(most)),
        None => ratio,
    })
}

fn times(ratio: f64) -> String {
    // Small ones have a digit that says something.
    if ratio < 0.1 { format!("{ratio:.4}x") } else { format!("{ratio:.2}x") }
}

/// What the row should be: a ratio, or a figure.
pub(super) fn goal(row: &Row) -> Option<String> {
    let goal = row.goal?;
    Some(if row.baseline.is_some() { format!("{goal}x") } else { format!("{goal} {}", row.unit) })
}

/// The sign of a verdict.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "✓",
        Verdict::Missed => "✗",
        Verdict::Undecided => "?",
    }
}

#[cfg(test)]
mod tests {
    use peermem_bench::Goal;

    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let shown = |value| amount(value, "µs");
        assert_eq!(shown(1.234), "1.23 µs");
        assert_eq!(shown(12.34), "12.3 µs");
        assert_eq!(shown(123.4), "123 µs");
        assert_eq!(shown(4.0), "4 µs");
        assert_eq!(shown(1_234_567.8), "1,234,568 µs");
    }

    #[test]
    fn a_goal_that_is_missed_is_shown_as_missed() {
        let row = Row::new("round trip", 50.0, "µs").against("floor", 20.0).goal(Goal::AtMost(2.0));
        let table = markdown(&[row, Row::new("alone", 3.0, "s").goal(Goal::AtMost(5.0))]);
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            ["| round trip | 50 µs | 20 µs, floor | 2.50x | ≤ 2x: missed |", "| alone | 3 s |  |  | ≤ 5 s |"]
        );
    }

    #[test]
    fn turns_that_disagree_are_shown() {
        let row = Row::in_turns("write", &[9.0, 11.0], "MB/s", "ib_write_bw", &[10.0, 10.0]);
        let row = row.goal(Goal::AtLeast(1.0));
        let shown = "| write | 11 MB/s | 10 MB/s, ib_write_bw | 1.10x (0.90x to 1.10x) | ≥ 1x: undecided |";
        assert_eq!(markdown(std::slice::from_ref(&row)).lines().nth(2), Some(shown));
        assert!(draw(&[row]).contains('?'));
    }

    #[test]
    fn both_sides_are_shown() {
        let row = Row::new("round trip", 50.0, "µs").against("floor", 20.0).goal(Goal::AtMost(2.0));
        let table = draw(&[row, Row::new("alone", 3.0, "s").goal(Goal::AtMost(5.0))]);
        for part in ["round trip", "50 µs", "20 µs", "floor", "2.50x", "≤ 2x", "✗", "≤ 5 s", "✓"] {
            assert!(table.contains(part), "{part} isn't in\n{table}");
        }
    }
}
