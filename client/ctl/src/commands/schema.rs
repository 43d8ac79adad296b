//! `peermemctl schema`

use anyhow::{Context, Result};
use serde_json::Value;

use crate::output::Output;

/// A definition for each command, and what they share.
const SCHEMA: &str = include_str!("../../schema.json");

pub(crate) fn run(command: Option<&str>, output: &Output) -> Result<()> {
    let Some(name) = command else { return output.line(SCHEMA.trim_end()) };
    let mut schema: Value = serde_json::from_str(SCHEMA).context("this program's own schema is no JSON")?;
    schema["title"] = format!("What peermemctl {name} --json prints").into();
    schema["$ref"] = format!("#/$defs/{name}").into();
    output.line(&serde_json::to_string_pretty(&schema)?)
}
