//! Errors that point at the line.

use std::{io, ops::Range, path::PathBuf};

use thiserror::Error;

/// Why a config can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that it can't say.
    #[error("{}:{line}:{column}: {message}\n{excerpt}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
        /// What is wrong and what was expected.
        message: String,
        /// The line itself, with a mark below the wrong part.
        excerpt: String,
    },
}

/// What serde calls types, and what they are in a file.
const TYPES: [(&str, &str); 6] = [
    ("expected u64", "expected a whole number, 0 or more"),
    ("expected path string", "expected a path in quotes"),
    ("expected a string", "expected text in quotes"),
    ("expected a boolean", "expected true or false"),
    (
        "expected a sequence",
        "expected a list, or [[ ]] around the name of a table of which there can be several",
    ),
    ("invalid type: map", "invalid type: a table"),
];

/// A message of serde's in the words of the file, which has no types of Rust's.
pub(super) fn in_toml_words(message: &str) -> String {
    TYPES.iter().fold(message.to_owned(), |message, (from, to)| message.replace(from, to))
}

impl ConfigError {
    /// An error at `span` of `text`, or at its start where the place isn't known.
    pub(super) fn at(path: &std::path::Path, text: &str, span: Option<Range<usize>>, message: &str) -> Self {
        let span = span.unwrap_or(0..0);
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let shown = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let marked =
            text.get(span).unwrap_or_default().lines().next().unwrap_or_default().chars().count().max(1);
        let gutter = line.to_string();
        let excerpt = format!(
            "{gutter} | {shown}\n{blank} | {indent}{mark}",
            blank = " ".repeat(gutter.len()),
            indent = " ".repeat(column - 1),
            mark = "^".repeat(marked),
        );
        Self::Wrong {
            path: path.to_owned(),
            line,
            column,
            message: message.trim().replace('\n', ": "),
            excerpt,
        }
    }
}
