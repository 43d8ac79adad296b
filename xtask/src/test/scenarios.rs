//! The scenarios: integration tests of `tests/scenarios`, built here and run in the guest.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::{output_of, run_logged};
use crate::progress::Step;
use crate::project;
use crate::vm::Profile;

/// The package whose tests they are.
const PACKAGE: &str = "peermem-scenarios";

/// One test program.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Its name: that of the file in `tests/`, which begins with the profile's.
    pub name: String,
    /// The guest profile that it needs.
    pub profile: String,
    /// The built program.
    pub executable: PathBuf,
}

/// Builds all scenarios and returns those whose name contains `filter`, or that have a test whose name does.
///
/// # Errors
/// When cargo fails, or a scenario's name doesn't begin with a profile's.
pub(super) fn build(filter: Option<&str>) -> Result<Vec<Scenario>> {
    let step = Step::new("Scenarios for the guest");
    let build = ["test", "--no-run", "--profile", "guest", "--package", PACKAGE, "--tests"];
    run_logged(project::cargo().args(build), &step, &project::log("scenarios-build"))?;
    // Nothing is left to build: this only tells where the programs are.
    let messages = output_of(project::cargo().args(build).arg("--message-format=json"))?;
    let profiles = Profile::names()?;
    let mut scenarios = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("cargo printed {line}"))?;
        let Message { executable: Some(executable), target: Some(target) } = message else { continue };
        if target.kind != ["test"] {
            continue;
        }
        let profile = profile_of(&target.name, &profiles).with_context(|| {
            format!(
                "{PACKAGE}'s test `{}` begins with no profile's name: {}",
                target.name,
                profiles.join(", ")
            )
        })?;
        if filter.is_some_and(|text| target.name.contains(text)) || has_test(&executable, filter)? {
            scenarios.push(Scenario { name: target.name, profile: profile.to_owned(), executable });
        }
    }
    scenarios.sort_by(|one, other| one.name.cmp(&other.name));
    step.done();
    Ok(scenarios)
}

/// What is read of a message of cargo's; test programs have an executable.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// `host_bridge_routes` runs in `host-bridge`: the longest profile that fits.
fn profile_of<'a>(test: &str, profiles: &'a [String]) -> Option<&'a str> {
    let fits = |profile: &&String| {
        let prefix = profile.replace('-', "_");
        test.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    profiles.iter().filter(fits).max_by_key(|profile| profile.len()).map(String::as_str)
}

fn has_test(executable: &PathBuf, filter: Option<&str>) -> Result<bool> {
    let Some(filter) = filter else { return Ok(true) };
    let tests = output_of(Command::new(executable).args(["--list", filter]))?;
    Ok(tests.lines().any(|line| line.ends_with(": test")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_names_its_profile() {
        let profiles = ["host", "host-bridge", "switch"].map(str::to_owned);
        assert_eq!(profile_of("switch_topology", &profiles), Some("switch"));
        assert_eq!(profile_of("host_bridge_routes", &profiles), Some("host-bridge"));
        assert_eq!(profile_of("switch", &profiles), Some("switch"));
        assert_eq!(profile_of("switches", &profiles), None);
    }
}
