//! Of many durations, the few that say something.

use std::time::Duration;

/// Durations, the shortest first. At least one.
#[derive(Debug)]
pub(crate) struct Sorted(Vec<Duration>);

impl Sorted {
    /// # Panics
    /// Without any.
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        assert!(!durations.is_empty(), "nothing was measured");
        durations.sort_unstable();
        Self(durations)
    }

    /// The one that `hundredths` of them don't exceed.
    pub(crate) fn percentile(&self, hundredths: usize) -> Duration {
        self.0[(self.0.len() - 1) * hundredths / 100]
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_from_the_shortest() {
        let sorted = Sorted::new((0..=100).rev().map(Duration::from_micros).collect());
        assert_eq!(sorted.median(), Duration::from_micros(50));
        assert_eq!(sorted.percentile(99), Duration::from_micros(99));
        assert_eq!(Sorted::new(vec![Duration::from_micros(7)]).percentile(99), Duration::from_micros(7));
    }
}
