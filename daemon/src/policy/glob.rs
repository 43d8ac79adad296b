//! Patterns over names.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The longest pattern. The longest text that one is held against, an initiator's, has 68 characters.
const LONGEST: usize = 80;

/// A pattern over names of regions or initiators: `*` stands for any characters, also none, and `?` for exactly one.
/// Nothing else is special; case counts.
///
/// 1 to 80 of `a-z A-Z 0-9 . _ : - * ?`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(String);

/// Why a text isn't a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} isn't a pattern: expected 1 to {LONGEST} of a-z A-Z 0-9 . _ : - and the wildcards * and ?")]
pub struct GlobError {
    text: String,
}

impl Glob {
    /// Whether `text`, all of it, fits the pattern. Takes at most as many steps as the lengths of the two multiplied.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // The last `*`: where the pattern goes on after it, and where the text does if it takes no more. What fits up to
        // there stays as it is: giving an earlier star more could only leave less text for the same rest of the pattern.
        let mut star = None;
        while let Some(&character) = text.get(t) {
            match (pattern.get(p), star) {
                (Some(b'*'), _) => {
                    p += 1;
                    star = Some((p, t));
                }
                (Some(&expected), _) if expected == b'?' || expected == character => {
                    p += 1;
                    t += 1;
                }
                (_, Some((after, taken))) => {
                    star = Some((after, taken + 1));
                    (p, t) = (after, taken + 1);
                }
                (_, None) => return false,
            }
        }
        pattern.iter().skip(p).all(|&rest| rest == b'*')
    }

    /// What every text that fits starts with.
    pub fn literal_start(&self) -> &str {
        self.0.split(['*', '?']).next().unwrap_or_default()
    }

    /// Whether it has no wildcard: it fits itself only.
    pub fn is_literal(&self) -> bool {
        self.literal_start().len() == self.0.len()
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Glob {
    type Err = GlobError;
    fn from_str(text: &str) -> Result<Self, GlobError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-*?".contains(&b);
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GlobError { text: text.chars().take(LONGEST).collect() })
        }
    }
}

/// Patterns of which one must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Globs(Vec<Glob>);

impl Globs {
    /// Fits everything.
    pub fn all() -> Self {
        Self(vec![Glob("*".to_owned())])
    }

    /// Whether one of them fits `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(text))
    }
}

impl FromIterator<Glob> for Globs {
    fn from_iter<I: IntoIterator<Item = Glob>>(globs: I) -> Self {
        Self(globs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().unwrap()
    }

    /// Tries every length for every star.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((b'*', after)), rest) => {
                naive(after, text) || rest.is_some_and(|(_, fewer)| naive(pattern, fewer))
            }
            (Some((expected, after)), Some((character, fewer))) => {
                (*expected == b'?' || expected == character) && naive(after, fewer)
            }
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn it_says_what_trying_everything_says(pattern in "[ab*?]{1,10}", text in "[ab]{0,12}") {
            prop_assert_eq!(glob(&pattern).matches(&text), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_text_is_a_pattern_or_refused(text in "\\PC*") {
            if let Ok(glob) = text.parse::<Glob>() {
                prop_assert_eq!(glob.as_str(), text);
            }
        }

        #[test]
        fn what_fits_starts_with_the_literal_start(pattern in "[ab*?]{1,6}", text in "[ab]{0,8}") {
            let glob = glob(&pattern);
            prop_assert!(!glob.matches(&text) || text.starts_with(glob.literal_start()));
            prop_assert!(!glob.is_literal() || glob.matches(&text) == (pattern == text));
        }
    }

    #[test]
    fn names_as_they_are() {
        assert!(glob("p2pmem-0000:3b:*").matches("p2pmem-0000:3b:00.0"));
        assert!(glob("rdma:mlx5_?").matches("rdma:mlx5_0"));
        assert!(!glob("rdma:mlx5_?").matches("rdma:mlx5_10"));
        assert!(!glob("gpu").matches("gpu0"));
        assert!(!glob("gpu*").matches("a-gpu0"));
        assert!(glob("*").matches(""));
        // A dot is a dot.
        assert!(!glob("a.b").matches("axb"));
    }

    #[test]
    fn a_pattern_of_stars_against_a_text_that_never_fits_ends_soon() {
        let stars = glob(&"a*".repeat(LONGEST / 2));
        assert!(!stars.matches(&"a".repeat(LONGEST / 2 - 1)));
        assert!(!glob(&format!("{}b", "*a".repeat(LONGEST / 2 - 1))).matches(&"a".repeat(1 << 16)));
    }

    #[test]
    fn patterns_keep_to_their_alphabet() {
        for bad in ["", "a b", "a/b", "é*", "[ab]", "{a,b}", &"x".repeat(LONGEST + 1)] {
            assert!(bad.parse::<Glob>().is_err(), "{bad:?} was taken for a pattern");
        }
    }
}
