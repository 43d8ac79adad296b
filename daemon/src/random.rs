//! Numbers that nobody guesses.

use std::io;

/// 128 random bits from the kernel, which has some from the boot on: this doesn't wait.
///
/// # Errors
/// Where a sandbox forbids getrandom(2).
pub(crate) fn bits() -> io::Result<u128> {
    let mut bits = [0; 16];
    // As few bytes as these come whole (getrandom(2)).
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())?;
    Ok(u128::from_ne_bytes(bits))
}
