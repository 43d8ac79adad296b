//! `peermemctl doctor`, and what it found.

use serde_json::Value;

use crate::command::{described, json, peermemctl};

/// What doctor printed, with its exit code.
#[derive(Debug)]
pub struct Diagnosis {
    /// Its report.
    pub report: Value,
    /// Its exit code.
    pub exit: i32,
}

impl Diagnosis {
    /// Runs it with these arguments.
    pub fn with(arguments: &str) -> Self {
        let output = peermemctl(&format!("doctor {arguments}")).output().unwrap();
        let exit = output.status.code().unwrap_or_else(|| panic!("{}", described(&output)));
        Self { report: json(&String::from_utf8_lossy(&output.stdout)), exit }
    }

    /// The findings of a check, as verdict and everything that it says.
    pub fn of(&self, check: &str) -> Vec<(String, String)> {
        let findings = self.report["findings"].as_array().unwrap().iter();
        let findings = findings.filter(|finding| finding["check"] == check);
        findings
            .map(|finding| (finding["verdict"].as_str().unwrap().to_owned(), finding.to_string()))
            .collect()
    }

    /// That a check has one finding with this verdict, which says all of this.
    #[track_caller]
    pub fn says(&self, check: &str, verdict: &str, parts: &[&str]) {
        let found = self.of(check);
        let [(is, text)] = &found[..] else { panic!("{check}: {found:?}") };
        assert_eq!(is, verdict, "{check}: {text}");
        for part in parts {
            assert!(text.contains(part), "{check}: {part:?} isn't in {text}");
        }
    }
}
