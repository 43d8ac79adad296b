//! One line: `CRC32 JSON\n`, the checksum as eight hexadecimal digits, over the bytes of the JSON.

use std::io::Write;

use serde::Serialize;

use super::WriteError;

/// The longest JSON of a line, in bytes.
pub(super) const MAX_JSON: usize = 64 << 10;

/// The checksum and the blank behind it.
const PREFIX: usize = 9;

/// The longest line, in bytes, its newline included.
pub(super) const MAX_LINE: usize = PREFIX + MAX_JSON + 1;

/// Appends the line of `value` to `to`; what it leaves there after an error means nothing.
pub(super) fn encode(value: &impl Serialize, to: &mut Vec<u8>) -> Result<(), WriteError> {
    let start = to.len();
    to.extend_from_slice(&[0; PREFIX]);
    serde_json::to_writer(&mut *to, value)?;
    let (prefix, json) = to[start..].split_at_mut(PREFIX);
    if json.len() > MAX_JSON {
        return Err(WriteError::RecordTooLong { bytes: json.len() });
    }
    prefix.copy_from_slice(&checksum(json));
    to.push(b'\n');
    Ok(())
}

/// The JSON of a whole line, if its checksum is right.
pub(super) fn decode(line: &[u8]) -> Option<&[u8]> {
    let (prefix, json) = line.strip_suffix(b"\n")?.split_at_checked(PREFIX)?;
    (checksum(json) == prefix).then_some(json)
}

fn checksum(json: &[u8]) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    write!(&mut prefix[..], "{:08x} ", crc32fast::hash(json)).expect("eight digits and a blank fit");
    prefix
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_yields_what_went_in(text in ".*") {
            let mut line = b"before".to_vec();
            encode(&text, &mut line).unwrap();
            let json = decode(&line[b"before".len()..]).unwrap();
            prop_assert_eq!(serde_json::from_slice::<String>(json).unwrap(), text);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            decode(&bytes);
        }
    }

    #[test]
    fn the_longest_record_fits_and_one_byte_more_does_not() {
        // Two of them are the quotation marks.
        let longest = "x".repeat(MAX_JSON - 2);
        let mut line = Vec::new();
        encode(&longest, &mut line).unwrap();
        assert_eq!(line.len(), MAX_LINE);
        assert!(decode(&line).is_some());
        let refused = encode(&format!("{longest}x"), &mut line);
        assert!(matches!(refused, Err(WriteError::RecordTooLong { bytes }) if bytes == MAX_JSON + 1));
    }
}
