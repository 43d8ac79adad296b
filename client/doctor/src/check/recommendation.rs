//! What was measured of the ways between two regions.

use super::scope::Scope;
use crate::{
    Finding,
    facts::Facts,
    recommendation::{Better, Recommendation, Way},
};

const CHECK: &str = "bench";

pub(super) fn measured(facts: &Facts, scope: Option<&Scope<'_>>) -> Vec<Finding> {
    let found = facts.recommendations.iter().filter_map(|recommendation| match recommendation {
        Ok(recommendation) if concerns(recommendation, scope) => Some(finding(facts, recommendation)),
        Ok(_) => None,
        Err(unseen) => Some(Finding::unknown(CHECK, "node", unseen)),
    });
    found.collect()
}

/// Whether it is about a device that is looked at.
fn concerns(recommendation: &Recommendation, scope: Option<&Scope<'_>>) -> bool {
    scope.is_none_or(|scope| {
        let Recommendation { providers, initiator, .. } = recommendation;
        scope.initiators.contains(initiator)
            && (providers.is_empty() || providers.iter().any(|device| scope.providers.contains_key(device)))
    })
}

fn finding(facts: &Facts, recommendation: &Recommendation) -> Finding {
    let Recommendation { operation, from, to, initiator, kernel, date, sizes, .. } = recommendation;
    let about = format!("{from}->{to}");
    let measured =
        format!("{operation} by {initiator}: {}; measured {date} UTC, Linux {kernel}", ranges(sizes));
    let again = format!(
        "peermemctl bench {operation} --from {from} --to {to} --initiator {initiator} --recommend --save"
    );
    if facts.kernel_release.as_ref() != Ok(kernel) {
        return Finding::unknown(CHECK, about, format!("{measured}, which isn't known to be this kernel"))
            .fix(again);
    }
    if sizes.iter().all(|size| size.way == Way::Direct) {
        return Finding::pass(CHECK, about, measured);
    }
    let why = "the devices reach each other, and a copy through host memory is faster: bounce messages of those lengths";
    Finding::warn(CHECK, about, measured, why)
        .fix(format!("see to what else is found of the two devices, then `{again}`"))
}

/// `direct is faster from 4KiB to 64KiB (1.10 to 1.32 times), bounced for 128KiB (1.05 times)`
fn ranges(sizes: &[Better]) -> String {
    let runs = sizes.chunk_by(|one, next| one.way == next.way).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        let ratios = run.iter().map(|size| size.ratio);
        let (least, most) = (ratios.clone().fold(f64::INFINITY, f64::min), ratios.fold(0.0, f64::max));
        Some(match run {
            [_] => format!("{} is faster at {} ({least:.2} times)", first.way, first.bytes),
            _ => format!(
                "{} is faster from {} to {} ({least:.2} to {most:.2} times)",
                first.way, first.bytes, last.bytes
            ),
        })
    });
    runs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use peermem_proto::ByteLen;

    use super::*;

    #[test]
    fn lengths_with_the_same_better_way_are_told_together() {
        let better = |kib: u64, way, ratio| Better { bytes: ByteLen::new(kib << 10), way, ratio };
        let sizes = [
            better(4, Way::Direct, 1.1),
            better(8, Way::Direct, 1.5),
            better(16, Way::Direct, 1.3),
            better(32, Way::Bounced, 1.05),
        ];
        let text = "direct is faster from 4KiB to 16KiB (1.10 to 1.50 times), bounced is faster at 32KiB (1.05 times)";
        assert_eq!(ranges(&sizes), text);
    }
}
