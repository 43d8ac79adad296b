//! The time of a log line: RFC 3339, in UTC, with microseconds.

use std::{
    cell::RefCell,
    fmt,
    time::{Duration, SystemTime},
};

use tracing_subscriber::fmt::{
    format::Writer,
    time::{self, FormatTime},
};

/// Writes what [`time::SystemTime`] does. Date and second are worked out once a second: they take longer than the rest of a line's
/// layout, and a map and an unmap have two lines.
pub(super) struct Clock;

thread_local! {
    static LATEST: RefCell<Second> = const { RefCell::new(Second { number: None, text: String::new() }) };
}

/// The second that this thread's latest line was written in.
struct Second {
    /// Since the epoch.
    number: Option<u64>,
    text: String,
}

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        LATEST.with_borrow_mut(|latest| {
            let mut now = since_epoch();
            if latest.number != Some(now.as_secs()) {
                now = latest.advance()?;
            }
            write!(writer, "{}.{:06}Z", latest.text, now.subsec_micros())
        })
    }
}

impl Second {
    /// Works out the text of this very second, and returns when that was.
    fn advance(&mut self) -> Result<Duration, fmt::Error> {
        loop {
            let before = since_epoch();
            self.text.clear();
            time::SystemTime.format_time(&mut Writer::new(&mut self.text))?;
            let now = since_epoch();
            // Else the text may be of either second.
            if now.as_secs() == before.as_secs() {
                self.text.truncate(self.text.rfind('.').unwrap_or(self.text.len()));
                self.number = Some(now.as_secs());
                return Ok(now);
            }
        }
    }
}

/// A clock that is set to before the epoch stands still there.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    fn text(of: impl FormatTime) -> String {
        let mut text = String::new();
        of.format_time(&mut Writer::new(&mut text)).unwrap();
        text
    }

    #[test]
    fn it_is_the_library_s_time_within_a_second_and_over_several() {
        // Twelve times in a second, and so into two more.
        for _ in 0..24 {
            let (before, here, after) = (text(time::SystemTime), text(Clock), text(time::SystemTime));
            // Of one length, so that the order of the texts is that of the times.
            assert_eq!((before.len(), after.len()), (here.len(), here.len()), "{before} {here} {after}");
            assert!(before <= here && here <= after, "{before} {here} {after}");
            sleep(Duration::from_millis(90));
        }
    }
}
