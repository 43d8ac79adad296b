//! The tables in `docs/performance.md`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::report::Report;
use super::table;

/// Puts a benchmark's table into the document at `path`, between the comments that name the benchmark; whether it has some.
///
/// # Errors
/// When the document can't be read or written.
pub(super) fn refresh(path: &Path, report: &Report<'_>) -> Result<bool> {
    let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let table = format!("{}\n\n{}", report.machine, table::markdown(report.rows));
    let Some(document) = replace(&document, report.benchmark.name, &table) else { return Ok(false) };
    fs::write(path, document).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// The document with `table` between `<!-- bench: NAME -->` and the `<!-- end -->` behind it.
fn replace(document: &str, name: &str, table: &str) -> Option<String> {
    let (start, end) = (format!("<!-- bench: {name} -->\n"), "<!-- end -->");
    let (before, rest) = document.split_once(&start)?;
    let after = &rest[rest.find(end)?..];
    Some(format!("{before}{start}{table}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_of_that_name_is_replaced() {
        let document = "a\n<!-- bench: x -->\nold\n<!-- end -->\nb\n<!-- bench: y -->\n<!-- end -->\n";
        let expected = "a\n<!-- bench: x -->\nnew\n<!-- end -->\nb\n<!-- bench: y -->\n<!-- end -->\n";
        assert_eq!(replace(document, "x", "new\n").unwrap(), expected);
        assert_eq!(replace(document, "z", "new\n"), None);
    }
}
