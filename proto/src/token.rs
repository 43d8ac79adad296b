//! The words that pass a lease on.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::text::serde_by_text;

/// 128 random bits, in hex: whoever says them first gets the lease. One use, a short life.
///
/// `Debug` doesn't show them, so that they don't end in a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u128);

/// Why a text isn't a token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a token is 32 hexadecimal digits, as `peermemctl map --delegate` prints them")]
pub struct TokenError;

impl Token {
    /// The token with these bits, which must come from the kernel's random numbers.
    pub const fn from_random(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| TokenError)
    }
}

serde_by_text!(Token);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_through_text_and_hides_from_logs() {
        let token = Token::from_random(0x00ab);
        assert_eq!(token.to_string().parse(), Ok(token));
        assert!(!format!("{token:?}").contains("ab"));
        for bad in ["", "ab", &"+".repeat(32), &"0".repeat(33)] {
            assert_eq!(bad.parse::<Token>(), Err(TokenError), "{bad:?}");
        }
    }
}
