//! Reading what Rust's test programs print.

use super::report::Counts;

/// What the test program whose whole output is `output` did; `succeeded` is what its status says.
///
/// The program's closing line has the numbers: test names are only used to say which failed. A
/// program without that line died, and one whose status contradicts it is counted as failed.
pub(super) fn counts(output: &str, succeeded: bool) -> Counts {
    let mut counts = Counts::default();
    // A test may run a test program of its own, whose summary comes before.
    let Some((passed, failed)) = output.lines().rev().find_map(summary) else {
        counts.failed.push("ended without its summary".to_owned());
        return counts;
    };
    counts.passed = passed;
    counts.failed.extend(output.lines().filter_map(failed_test).map(str::to_owned));
    // A line that the test's own output tore apart names no test.
    counts.failed.resize_with(failed, || "a test".to_owned());
    if counts.failed.is_empty() && !succeeded {
        counts.failed.push("ended with a failure after its summary".to_owned());
    }
    counts
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`
fn summary(line: &str) -> Option<(usize, usize)> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = numbers.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

/// `test NAME ... FAILED`
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str =
        "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";

    #[test]
    fn passed_and_failed_are_counted() {
        let output = format!(
            "running 5 tests\ntest a::b ... ok\ntest a::c ... FAILED\ntest torn apart\n\n{SUMMARY}\n"
        );
        let counts = counts(&output, false);
        assert_eq!(counts, Counts { passed: 3, failed: vec!["a::c".into(), "a test".into()] });
    }

    #[test]
    fn death_and_contradiction_are_failures() {
        assert_eq!(counts("running 5 tests\ntest a ... ok\n", false).failed, ["ended without its summary"]);
        assert_eq!(counts("", true).failed, ["ended without its summary"]);
        let ok =
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(counts(&format!("{SUMMARY}\nok\n{ok}\n"), true), Counts { passed: 1, failed: Vec::new() });
        assert_eq!(counts(ok, true), Counts { passed: 1, failed: Vec::new() });
        assert_eq!(counts(ok, false).failed, ["ended with a failure after its summary"]);
    }
}
