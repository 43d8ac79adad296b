//! Rows as a picture: two bars each, ours above the baseline, and a mark where the goal is.

use peermem_bench::{Row, Verdict};

use super::table::{amount, goal, mark, ratio};

/// In pixels.
const WIDTH: f64 = 920.0;
const MARGIN: f64 = 24.0;
const LINE: f64 = 20.0;
const BAR: f64 = 14.0;
/// The longest bar: beside it there is room for its figure and its name.
const LONGEST: f64 = 560.0;

/// Colours for a light background, and for a dark one where the reader's browser asks for that.
const STYLE: &str = "\
:root{--ground:#fff;--ink:#1b1f24;--soft:#57606a;--base:#b6bec8;--ours:#2f6fb5;--good:#1a7f37;--bad:#c4161c}
@media(prefers-color-scheme:dark){:root{--ground:#0d1117;--ink:#e6edf3;--soft:#9ea7b3;--base:#4d5661;--ours:#58a6ff;\
--good:#56d364;--bad:#ff7b72}}
text{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif;font-size:13px;fill:var(--ink)}
.title{font-size:16px;font-weight:600}.what{font-weight:600}.soft{fill:var(--soft);font-size:12px}
.ground{fill:var(--ground)}.ours{fill:var(--ours)}.base{fill:var(--base)}
.goal{stroke:var(--ink);stroke-width:2;stroke-dasharray:3 2}.good{fill:var(--good)}.bad{fill:var(--bad)}
";

/// The picture, below two lines that say what it shows and where that was measured.
pub(super) fn draw(heading: &[String; 2], rows: &[Row]) -> String {
    let mut canvas = Canvas { parts: Vec::new(), y: MARGIN };
    for (line, class) in heading.iter().zip(["title", "soft"]) {
        canvas.text(MARGIN, class, "start", line);
        canvas.y += LINE;
    }
    canvas.y += LINE / 2.0;
    for row in rows {
        canvas.row(row, LONGEST / longest(rows, &row.unit));
    }
    let height = canvas.y + MARGIN / 2.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n{}\n</svg>\n",
        canvas.parts.join("\n")
    )
}

/// What the longest bar stands for: bars of one unit are drawn to one scale.
fn longest(rows: &[Row], unit: &str) -> f64 {
    let figures = rows.iter().filter(|row| row.unit == unit).flat_map(|row| {
        let baseline = row.baseline.as_ref().map(|baseline| baseline.value);
        [Some(row.ours), baseline, goal_at(row)].into_iter().flatten()
    });
    figures.fold(f64::MIN_POSITIVE, f64::max)
}

/// The figure that just meets the goal.
fn goal_at(row: &Row) -> Option<f64> {
    Some(row.goal?.bound() * row.baseline.as_ref().map_or(1.0, |baseline| baseline.value))
}

/// What has been drawn, down to `y`.
struct Canvas {
    parts: Vec<String>,
    y: f64,
}

impl Canvas {
    fn row(&mut self, row: &Row, scale: f64) {
        self.text(MARGIN, "what", "start", &row.what);
        let class = match row.verdict() {
            Some(Verdict::Met) => "good",
            Some(Verdict::Missed) => "bad",
            Some(Verdict::Undecided) | None => "what",
        };
        let goal = goal(row).map(|goal| format!("(goal {goal})"));
        let met = row.verdict().map(|verdict| mark(verdict).to_owned());
        let verdict: Vec<_> = [ratio(row), goal, met].into_iter().flatten().collect();
        self.text(WIDTH - MARGIN, class, "end", &verdict.join(" "));
        self.y += LINE / 2.0;
        let top = self.y;
        self.bar("ours", row.ours * scale, &amount(row.ours, &row.unit));
        if let Some(baseline) = &row.baseline {
            let name = format!("{}  {}", amount(baseline.value, &row.unit), baseline.what);
            self.bar("base", baseline.value * scale, &name);
        }
        if let Some(at) = goal_at(row) {
            let (x, bottom) = (MARGIN + at * scale, self.y - 1.0);
            self.parts.push(format!(
                "<line class=\"goal\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>",
                top - 2.0
            ));
        }
        self.y += LINE * 1.3;
    }

    fn bar(&mut self, class: &str, length: f64, text: &str) {
        let y = self.y;
        self.parts.push(format!(
            "<rect class=\"{class}\" x=\"{MARGIN}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            length.max(1.0)
        ));
        self.y += BAR - 2.0;
        self.text(MARGIN + length + 8.0, "soft", "start", text);
        self.y += 5.0;
    }

    fn text(&mut self, x: f64, class: &str, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.parts.push(format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>",
            self.y
        ));
    }
}

#[cfg(test)]
mod tests {
    use peermem_bench::Goal;

    use super::*;

    #[test]
    fn bars_of_one_unit_share_a_scale_that_the_goal_fits_into() {
        let rows = [
            Row::new("a", 10.0, "µs").against("floor", 8.0).goal(Goal::AtMost(2.5)),
            Row::new("b", 5.0, "µs"),
            Row::new("c", 900.0, "MiB"),
        ];
        assert!((longest(&rows, "µs") - 20.0).abs() < 1e-9);
        assert!((longest(&rows, "MiB") - 900.0).abs() < 1e-9);
    }

    #[test]
    fn no_text_is_markup() {
        let svg = draw(&["a < b & c".to_owned(), String::new()], &[Row::new("<x>", 1.0, "s")]);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("&lt;x>"), "{svg}");
    }
}
