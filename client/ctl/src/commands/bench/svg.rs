//! Bandwidth over message size, as a picture.

use std::fmt::Write;

use peermem_doctor::recommendation::Way;

use super::report::Row;
use crate::commands::topo::svg::text::escape;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Room for the labels around the plot.
const MARGIN: f64 = 70.0;

/// Sizes go along the bottom, one step each; bandwidth goes up from zero.
pub(super) fn draw(title: &str, rows: &[Row]) -> String {
    let mut sizes: Vec<_> = rows.iter().map(|row| row.bytes).collect();
    sizes.dedup();
    let most = rows.iter().map(|row| row.bytes_per_second).fold(f64::MIN_POSITIVE, f64::max);
    let x =
        |at: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * at as f64 / sizes.len().saturating_sub(1).max(1) as f64;
    let y = |rate: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * rate / most;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"24\">{}</text>\n",
        escape(title)
    );
    let mut add = |line: String| {
        // Writing to a string can't fail.
        let _ = writeln!(svg, "{line}");
    };
    for step in 0..=4 {
        let rate = most * f64::from(step) / 4.0;
        let (at, end) = (y(rate), WIDTH - MARGIN);
        add(format!("<path d=\"M{MARGIN} {at:.1}H{end}\" stroke=\"#ddd\"/>"));
        add(format!(
            "<text x=\"{}\" y=\"{at:.1}\" text-anchor=\"end\">{:.1} MB/s</text>",
            MARGIN - 6.0,
            rate / 1e6
        ));
    }
    for (at, size) in sizes.iter().enumerate() {
        let (at, below) = (x(at), HEIGHT - MARGIN + 18.0);
        add(format!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{size}</text>"));
    }
    for (way, colour, line) in [(Way::Direct, "#0a6", 44.0), (Way::Bounced, "#c50", 60.0)] {
        let points: Vec<_> = rows
            .iter()
            .filter(|row| row.way == way)
            .filter_map(|row| {
                let at = sizes.iter().position(|size| *size == row.bytes)?;
                Some(format!("{:.1},{:.1}", x(at), y(row.bytes_per_second)))
            })
            .collect();
        if !points.is_empty() {
            let points = points.join(" ");
            add(format!(
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
            ));
            add(format!("<text x=\"{MARGIN}\" y=\"{line}\" fill=\"{colour}\">{way}</text>"));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::row, *};

    #[test]
    fn each_way_is_a_line_through_its_sizes() {
        let rows = [
            row(Way::Direct, 4096, 1e6, true),
            row(Way::Bounced, 4096, 2e6, true),
            row(Way::Direct, 8192, 3e6, true),
            row(Way::Bounced, 8192, 1e6, true),
        ];
        let svg = draw("a & b", &rows);
        assert!(svg.contains("a &amp; b") && svg.matches("<polyline").count() == 2, "{svg}");
        assert!(svg.contains(">4KiB<") && svg.contains("3.0 MB/s"), "{svg}");
    }
}
