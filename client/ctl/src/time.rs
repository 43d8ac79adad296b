//! Moments of the boot clock, and dates, for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peermem::proto::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Now.
pub(crate) fn now() -> Moment {
    let now = clock_gettime(ClockId::Boottime);
    // The boot clock counts up from zero.
    let secs = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or_default());
    Moment::from_millis(0).after(secs + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or_default()))
}

/// How far away `at` is: `in 90 s`, or `now` where it is over.
pub(crate) fn until(at: Moment) -> String {
    in_words(at.since(now()))
}

fn in_words(left: Duration) -> String {
    match left.as_millis().div_ceil(1000) {
        0 => "now".to_owned(),
        secs @ 1..600 => format!("in {secs} s"),
        secs @ 600..36_000 => format!("in {} min", secs / 60),
        secs => format!("in {} h", secs / 3600),
    }
}

/// The date and time of day, in UTC: `2026-11-24 18:05`.
pub(crate) fn date_utc(at: SystemTime) -> String {
    const DAY: u64 = 86_400;
    let secs = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut day, mut year, mut month) = (secs / DAY, 1970, 0);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of = |year| 365 + u64::from(is_leap(year));
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    let (hour, minute) = (secs % DAY / 3600, secs % 3600 / 60);
    format!("{year}-{:02}-{:02} {hour:02}:{minute:02}", month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |secs| date_utc(UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(at(0), "1970-01-01 00:00");
        assert_eq!(at(951_782_399), "2000-02-28 23:59");
        assert_eq!(at(951_782_400), "2000-02-29 00:00");
        assert_eq!(at(1_767_225_599), "2025-12-31 23:59");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00");
    }

    #[test]
    fn times_are_told_as_coarsely_as_they_are_far() {
        assert_eq!(in_words(Duration::from_millis(1)), "in 1 s");
        for (secs, words) in
            [(0, "now"), (1, "in 1 s"), (599, "in 599 s"), (600, "in 10 min"), (36_000, "in 10 h")]
        {
            assert_eq!(in_words(Duration::from_secs(secs)), words);
        }
        assert_eq!(until(Moment::from_millis(0)), "now");
        assert!(now().as_millis() > 0);
    }
}
