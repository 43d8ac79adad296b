//! Text in a picture: escaped, and cut to fit.

use super::layout::BOX;

/// From one line to the next, in pixels.
pub(super) const LINE: usize = 17;
/// What a character of the 12-pixel font takes at most, in tenths of a pixel.
const CHARACTER: usize = 74;
/// How long a line of the heading may be.
const HEADING: usize = 108;

/// A line of text whose top left corner is here.
pub(super) fn element(x: usize, y: usize, class: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!(r#"<text x="{x}" y="{}" class="{class}">{}</text>"#, y + 12, escape(text))
}

/// For XML, in which other control characters than the end of a line can't even be escaped.
pub(in crate::commands) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() && c != '\n' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// How many characters fit into a line of a box.
const FITS: usize = (BOX.width - 20) * 10 / CHARACTER;

/// So much of a line as fits into a box.
pub(super) fn cut(line: &str) -> String {
    if line.chars().count() <= FITS {
        return line.to_owned();
    }
    line.chars().take(FITS - 1).chain(['…']).collect()
}

/// Remarks in lines that fit into a box, as far as each one does.
pub(super) fn fill(remarks: &[String]) -> Vec<String> {
    lines(remarks.iter().map(String::as_str), ", ", FITS)
}

/// A paragraph in lines.
pub(super) fn wrap(text: &str) -> Vec<String> {
    lines(text.split(' '), " ", HEADING)
}

fn lines<'a>(parts: impl Iterator<Item = &'a str>, separator: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + separator.len() + part.chars().count() <= width => {
                line.push_str(separator);
                line.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        assert_eq!(escape("<a b=\"c\">&\u{1b}\n"), "&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}\n");
    }

    #[test]
    fn long_lines_are_cut_and_wrapped() {
        assert_eq!(cut("nvme0"), "nvme0");
        let long = cut(&"x".repeat(100));
        assert!(long.ends_with('…') && long.chars().count() * CHARACTER / 10 <= BOX.width - 20, "{long}");
        let lines = wrap(&"word ".repeat(60));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= HEADING), "{lines:?}");
    }
}
