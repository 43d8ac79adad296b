//! What the running kernel has.

use peermem::advice::{KERNEL_FEATURES, KernelFeature};

use crate::{Finding, facts::Facts};

const ABOUT: &str = "kernel";

pub(super) fn features(facts: &Facts) -> Vec<Finding> {
    let release = match &facts.kernel_release {
        Ok(release) => release,
        Err(unseen) => return vec![Finding::unknown("kernel", ABOUT, unseen)],
    };
    KERNEL_FEATURES.iter().map(|feature| self::feature(facts, release, feature)).collect()
}

fn feature(facts: &Facts, release: &str, feature: &KernelFeature) -> Finding {
    let KernelFeature { check, name, option, since, why } = *feature;
    let needed = format!("{}.{}", since.0, since.1);
    match version(release) {
        None => {
            return Finding::unknown(
                check,
                name,
                format!("Linux {release}: not a version that can be compared"),
            );
        }
        Some(version) if version < since => {
            let measured = format!("no {name}: Linux {release} is older than {needed}, which brings it");
            return Finding::warn(check, ABOUT, measured, why).fix(format!("run Linux {needed} or newer"));
        }
        Some(_) => {}
    }
    match &facts.kernel_options {
        Err(unseen) => Finding::unknown(check, ABOUT, format!("{name}: {unseen}")),
        Ok(options) if options.contains(option) => {
            Finding::pass(check, ABOUT, format!("{name}: Linux {release}, CONFIG_{option} is set"))
        }
        Ok(_) => {
            let measured = format!("no {name}: Linux {release}, CONFIG_{option} is not set");
            Finding::warn(check, ABOUT, measured, why).fix(format!("run a kernel with CONFIG_{option}=y"))
        }
    }
}

/// Major and minor version out of a release such as `6.12.43+deb13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.12.43+deb13-amd64"), Some((6, 12)));
        assert_eq!(version("7.3-rc1"), Some((7, 3)));
        assert_eq!(version("next"), None);
        assert!(version("6.9.0") < version("6.19.0"));
    }
}
