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
    ask_again(|| ask().ok_or_else(|| what.to_owned()))
}

/// Looks again and again until it is so; the panic's message has what was seen last.
pub fn until_seen<T: Debug>(what: &str, mut look: impl FnMut() -> T, is_so: impl Fn(&T) -> bool) {
    ask_again(|| {
        let seen = look();
        if is_so(&seen) { Ok(()) } else { Err(format!("{what}: {seen:?}")) }
    });
}

fn ask_again<T>(mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = soon();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(what) => assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}
