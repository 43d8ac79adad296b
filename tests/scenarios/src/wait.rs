//! Waiting, never for ever.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// How long anything may take: long enough for emulation, short enough to end a hung test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A deadline for something that begins now.
pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Asks again and again until there is an answer, for things that send no event. `what` goes into the panic's message.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = soon();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The same until what is looked at is as `expected`; the panic's message has what was seen last.
pub fn until_is<T: PartialEq + Debug>(what: &str, expected: &T, mut look: impl FnMut() -> T) {
    let deadline = soon();
    loop {
        let seen = look();
        if seen == *expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain until {what}: {seen:?} instead of {expected:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
