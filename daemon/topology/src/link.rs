//! PCI Express links: how fast they run, and how fast they could.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::{TextError, by_text};

/// A link's generation, by its rate for one lane and direction. Text form: `16.0 GT/s`, as sysfs writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LinkSpeed {
    /// PCI Express 1: 2.5 GT/s.
    Gen1,
    /// PCI Express 2: 5 GT/s.
    Gen2,
    /// PCI Express 3: 8 GT/s.
    Gen3,
    /// PCI Express 4: 16 GT/s.
    Gen4,
    /// PCI Express 5: 32 GT/s.
    Gen5,
    /// PCI Express 6: 64 GT/s.
    Gen6,
}

const SPEEDS: [(LinkSpeed, &str); 6] = [
    (LinkSpeed::Gen1, "2.5"),
    (LinkSpeed::Gen2, "5.0"),
    (LinkSpeed::Gen3, "8.0"),
    (LinkSpeed::Gen4, "16.0"),
    (LinkSpeed::Gen5, "32.0"),
    (LinkSpeed::Gen6, "64.0"),
];

impl LinkSpeed {
    /// Bits a second that one lane carries in one direction after line coding: `PCIE_SPEED2MBS_ENC` in
    /// `drivers/pci/pci.h`. The headers of packets still come off.
    const fn bits_per_second(self) -> u64 {
        match self {
            Self::Gen1 => 2_500_000_000 / 10 * 8,
            Self::Gen2 => 5_000_000_000 / 10 * 8,
            Self::Gen3 => 8_000_000_000 / 130 * 128,
            Self::Gen4 => 16_000_000_000 / 130 * 128,
            Self::Gen5 => 32_000_000_000 / 130 * 128,
            Self::Gen6 => 64_000_000_000,
        }
    }
}

impl fmt::Display for LinkSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = SPEEDS.iter().find(|(speed, _)| speed == self).map_or("?", |(_, rate)| rate);
        write!(f, "{rate} GT/s")
    }
}

impl FromStr for LinkSpeed {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        text.strip_suffix(" GT/s")
            .and_then(|number| SPEEDS.iter().find(|(_, rate)| *rate == number))
            .map(|(speed, _)| *speed)
            .ok_or_else(|| TextError::new("a link speed such as 16.0 GT/s", text))
    }
}

/// Speed and width together. Text form: `16.0 GT/s x8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkMode {
    /// The rate of one lane.
    pub speed: LinkSpeed,
    /// How many lanes: 1 to 32.
    pub width: u8,
}

impl LinkMode {
    /// Bytes a second in one direction, before the headers of packets come off.
    pub const fn bandwidth(self) -> u64 {
        self.speed.bits_per_second() / 8 * self.width as u64
    }

    /// The best that a link does whose ends can do this much each.
    pub fn common(self, other: Self) -> Self {
        Self { speed: self.speed.min(other.speed), width: self.width.min(other.width) }
    }
}

impl fmt::Display for LinkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x{}", self.speed, self.width)
    }
}

impl FromStr for LinkMode {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let width = |text: &str| text.parse().ok().filter(|lanes| (1..=32).contains(lanes));
        text.split_once(" x")
            .and_then(|(speed, lanes)| Some(Self { speed: speed.parse().ok()?, width: width(lanes)? }))
            .ok_or_else(|| TextError::new("a link mode such as 16.0 GT/s x8", text))
    }
}

/// What one end says of its link. A root port and a switch's downstream port tell of the link below them, every other
/// function of the one above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// How it runs; `None` when nothing is connected or its state isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<LinkMode>,
    /// The best that this end can do.
    pub max: LinkMode,
}

by_text!(LinkSpeed, LinkMode);

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str) -> LinkMode {
        text.parse().unwrap()
    }

    #[test]
    fn bandwidth_counts_line_coding() {
        // 8b/10b up to 5 GT/s, 128b/130b up to 32 GT/s.
        for (text, megabytes) in [
            ("2.5 GT/s x1", 250),
            ("5.0 GT/s x4", 2000),
            ("8.0 GT/s x8", 7876),
            ("16.0 GT/s x16", 31507),
            ("32.0 GT/s x16", 63015),
            ("64.0 GT/s x16", 128_000),
        ] {
            assert_eq!(mode(text).bandwidth() / 1_000_000, megabytes, "{text}");
            assert_eq!(mode(text).to_string(), text);
        }
    }

    #[test]
    fn both_ends_limit_a_link() {
        assert_eq!(mode("32.0 GT/s x8").common(mode("16.0 GT/s x16")), mode("16.0 GT/s x8"));
    }

    #[test]
    fn near_misses_are_refused() {
        for text in
            ["", "16.0 GT/s", "16 GT/s x8", "16.0 GT/s x0", "16.0 GT/s x33", "16.0 GT/s x256", "Unknown x4"]
        {
            assert!(text.parse::<LinkMode>().is_err(), "{text:?} was taken for a link mode");
        }
    }
}
