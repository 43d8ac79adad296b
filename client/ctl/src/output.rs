//! What goes to standard output: tables that fit the terminal for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use comfy_table::{Cell, Color, ContentArrangement, LineStyle, Table, TableStyle};
use peermem::proto::Path;
use serde::Serialize;

/// Where the bytes are, in one word: emulated memory says so wherever it is shown.
pub(crate) fn memory(emulated: bool) -> &'static str {
    if emulated { EMULATED } else { "device" }
}

/// Who does the DMA, and the way of each.
pub(crate) fn paths(paths: &[Path]) -> String {
    paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A cell that says nothing.
pub(crate) const NOTHING: &str = "-";

const EMULATED: &str = "emulated";

/// Columns between one cell's text and the next one's.
const PADDING: usize = 3;

/// The colour of a cell that says nothing else.
fn colour(text: &str) -> Option<Color> {
    match text {
        EMULATED | "warn" | "unknown" => Some(Color::Yellow),
        "fail" | "wrong" => Some(Color::Red),
        "pass" | "right" => Some(Color::Green),
        _ => None,
    }
}

/// A line below the header and no others, so that rows are what `grep` and `awk` see.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle {
    left: None,
    fill: Some('─'),
    junction: Some('─'),
    right: None,
});

/// Standard output, and how to write to it. Errors of writing are returned, never a panic: the reader of a pipe may
/// have seen enough.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    colours: bool,
}

impl Output {
    /// Colours only on a terminal, and not where `NO_COLOR` is set (no-color.org: to anything but nothing).
    pub(crate) fn new(json: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colours: io::stdout().is_terminal() && !unwanted }
    }

    /// Whether results are wanted as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One JSON value, on a line of its own.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// One line of text, seen at once.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }

    /// Names and values, one pair a line.
    pub(crate) fn fields(&self, fields: &[(&str, String)]) -> Result<()> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
        self.line(&lines.join("\n"))
    }

    /// Rows below a header.
    pub(crate) fn table<const N: usize>(
        &self,
        header: [&str; N],
        rows: impl Iterator<Item = [String; N]>,
    ) -> Result<()> {
        let mut table = Table::new();
        table.set_header(header);
        self.filled(table, rows)
    }

    /// Rows below a header, without the columns in which every row has [`NOTHING`]. A terminal that is too narrow for them gets stanzas.
    pub(crate) fn sparse_table<const N: usize>(&self, header: [&str; N], rows: &[[String; N]]) -> Result<()> {
        let shown =
            |column: usize| rows.iter().any(|row| row.get(column).is_some_and(|text| text != NOTHING));
        let columns: Vec<_> = (0..N).filter(|at| shown(*at)).collect();
        let width = |at: usize| {
            rows.iter().map(|row| &*row[at]).chain([header[at]]).map(|text| text.chars().count()).max()
        };
        let needed: usize = columns.iter().filter_map(|at| width(*at)).map(|width| width + PADDING).sum();
        let mut table = Table::new();
        if table.width().is_some_and(|width| usize::from(width) < needed) {
            return self.stanzas(&header, &columns, rows);
        }
        table.set_header(columns.iter().map(|at| header[*at]));
        self.filled(
            table,
            rows.iter().map(|row| columns.iter().map(|at| row[*at].clone()).collect::<Vec<_>>()),
        )
    }

    /// What a terminal is too narrow for as a table: one field a line, an empty line between rows.
    fn stanzas<const N: usize>(
        &self,
        header: &[&str; N],
        columns: &[usize],
        rows: &[[String; N]],
    ) -> Result<()> {
        for (number, row) in rows.iter().enumerate() {
            if number > 0 {
                self.line("")?;
            }
            let fields: Vec<_> = columns.iter().map(|at| (header[*at], row[*at].clone())).collect();
            self.fields(&fields)?;
        }
        Ok(())
    }

    /// Rows that need no header.
    pub(crate) fn rows<const N: usize>(&self, rows: impl Iterator<Item = [String; N]>) -> Result<()> {
        self.filled(Table::new(), rows)
    }

    fn filled(
        &self,
        mut table: Table,
        rows: impl Iterator<Item = impl IntoIterator<Item = String>>,
    ) -> Result<()> {
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
        for row in rows {
            table.add_row(row.into_iter().map(|text| self.cell(text)));
        }
        let text: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        self.line(&text.join("\n"))
    }

    fn cell(&self, text: String) -> Cell {
        let colour = colour(&text).filter(|_| self.colours);
        let cell = Cell::new_owned(text);
        match colour {
            Some(colour) => cell.fg(colour),
            None => cell,
        }
    }
}
