//! The fields of a log line: `message name=value name="text"`.
//!
//! What a client says may be in any of them, so no control character gets through: neither a newline, which would begin a line that
//! nobody wrote, nor an escape sequence, which a terminal would obey.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, format::Writer},
};

/// Writes them.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let (dimmed, plain) =
                if self.writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            for part in [dimmed, name, "=", plain] {
                self.writer.write_str(part)?;
            }
        }
        Printable(&mut self.writer).write_fmt(value)
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // `Debug` looks at it character by character.
        if value.bytes().all(|byte| is_plain(byte) && !matches!(byte, b'"' | b'\\')) {
            self.record_debug(field, &format_args!("\"{value}\""));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.result.is_ok() {
            self.result = self.put(field.name(), format_args!("{value:?}"));
        }
    }
}

/// Lets through what can be printed, and writes anything else as Rust would in a literal.
struct Printable<'a, 'w>(&'a mut Writer<'w>);

impl Write for Printable<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(is_plain) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|char| match char.is_control() {
            true => write!(self.0, "{}", char.escape_default()),
            false => self.0.write_char(char),
        })
    }
}

/// Whether it is a character that Rust writes as it is, quotation marks and backslashes apart.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}
