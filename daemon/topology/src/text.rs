//! Text forms: how numbers are written, and one door in and out for those that are written as text.

use std::ops::RangeInclusive;

use thiserror::Error;

/// Why a text isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} isn't {expected}")]
pub struct TextError {
    expected: &'static str,
    text: String,
}

impl TextError {
    pub(crate) fn new(expected: &'static str, text: &str) -> Self {
        Self { expected, text: text.chars().take(40).collect() }
    }
}

/// `text` as a number, when it is that many hexadecimal digits and nothing else.
pub(crate) fn hex(text: &str, digits: RangeInclusive<usize>) -> Option<u32> {
    (digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

/// What `#[serde(try_from = "String", into = "String")]` needs, by `FromStr` and `Display`.
macro_rules! by_text {
    ($($type:ty),+) => {$(
        impl TryFrom<String> for $type {
            type Error = $crate::text::TextError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )+};
}
pub(crate) use by_text;
