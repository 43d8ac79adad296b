//! Reading a journal, whatever may be in the file.

use std::io::{self, BufRead, Read};

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{
    MAX_FILE,
    header::{BootId, FORMAT, Format, Header},
    line::{self, MAX_LINE},
};

/// Why nothing in a file counts.
#[derive(Debug, Error)]
pub enum Unusable {
    /// A folder, a device, a symbolic link (which isn't followed).
    #[error("it isn't a regular file")]
    NotAFile,
    /// It can't be opened or read.
    #[error("it can't be read")]
    Unreadable(#[from] io::Error),
    /// No journal is as large.
    #[error("it has {bytes} bytes, more than a journal's {MAX_FILE}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The first line isn't that of a journal, or is damaged.
    #[error("its first line isn't that of a lease journal")]
    NotAJournal,
    /// Another version of the daemon wrote it.
    #[error("its format is {found}, and this peermemd reads {FORMAT} only: another version wrote it")]
    OtherFormat {
        /// The format's number.
        found: u32,
    },
    /// A line is damaged, and others follow it: that is no unfinished write.
    #[error("line {line}, at byte {offset}, is damaged")]
    Damaged {
        /// The line, counted from 1.
        line: usize,
        /// Where it starts in the file.
        offset: u64,
    },
    /// A line is intact, and says what this version doesn't know.
    #[error("line {line} is intact but no record of this peermemd's")]
    UnknownRecord {
        /// The line, counted from 1.
        line: usize,
        /// What was expected.
        source: serde_json::Error,
    },
}

/// What is in a journal.
#[derive(Debug)]
pub(super) struct Content<R> {
    pub(super) header: Header,
    pub(super) records: Vec<R>,
    /// How many bytes from the start are intact lines.
    pub(super) intact: u64,
    /// What follows those: nothing, or the last line, cut short or damaged.
    pub(super) torn: Vec<u8>,
}

/// Reads a journal of this boot; `None` for one of an earlier boot.
pub(super) fn read<R: DeserializeOwned>(
    mut from: impl BufRead,
    boot_id: &BootId,
) -> Result<Option<Content<R>>, Unusable> {
    let mut line = Vec::new();
    read_line(&mut from, &mut line)?;
    let Some(header) = read_header(&line)? else { return Err(Unusable::NotAJournal) };
    if header.boot_id != *boot_id {
        return Ok(None);
    }
    let mut content = Content { header, records: Vec::new(), intact: line.len() as u64, torn: Vec::new() };
    for number in 2.. {
        read_line(&mut from, &mut line)?;
        if let Some(json) = line::decode(&line) {
            let record = serde_json::from_slice(json)
                .map_err(|source| Unusable::UnknownRecord { line: number, source })?;
            content.records.push(record);
            content.intact += line.len() as u64;
        } else if from.fill_buf()?.is_empty() {
            content.torn = line;
            break;
        } else {
            return Err(Unusable::Damaged { line: number, offset: content.intact });
        }
    }
    Ok(Some(content))
}

/// Reads up to a newline, the file's end or the length of the longest line.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    from.by_ref().take(MAX_LINE as u64).read_until(b'\n', line).map(drop)
}

fn read_header(line: &[u8]) -> Result<Option<Header>, Unusable> {
    let Some(json) = line::decode(line) else { return Ok(None) };
    // A later format may have another header, but says so in the same place.
    match serde_json::from_slice(json) {
        Ok(Format { peermem_lease_journal: FORMAT }) => Ok(serde_json::from_slice(json).ok()),
        Ok(Format { peermem_lease_journal: found }) => Err(Unusable::OtherFormat { found }),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A journal of `records`, and where each line of it ends.
    fn journal(records: &[String]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        line::encode(&Header::fresh(BootId::new("this")).unwrap(), &mut bytes).unwrap();
        let mut ends = vec![bytes.len()];
        for record in records {
            line::encode(record, &mut bytes).unwrap();
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn read_this(bytes: &[u8]) -> Result<Content<String>, Unusable> {
        read(bytes, &BootId::new("this")).map(|content| content.expect("it is of this boot"))
    }

    fn some_records() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ -~]{0,40}", 0..12)
    }

    proptest! {
        #[test]
        fn whatever_is_cut_off_the_lines_before_it_count(records in some_records(), cut: prop::sample::Index) {
            let (mut bytes, ends) = journal(&records);
            bytes.truncate(cut.index(bytes.len() + 1));
            let whole = ends.iter().filter(|end| **end <= bytes.len()).count();
            match read_this(&bytes) {
                Ok(content) => {
                    prop_assert_eq!(&content.records, &records[..whole - 1]);
                    prop_assert_eq!(content.intact, ends[whole - 1] as u64);
                    prop_assert_eq!(&content.torn, &bytes[ends[whole - 1]..]);
                }
                Err(error) => prop_assert!(whole == 0 && matches!(error, Unusable::NotAJournal), "{error}"),
            }
        }

        #[test]
        fn whatever_bit_flips_only_records_before_it_count(
            records in some_records(), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let (mut bytes, ends) = journal(&records);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let whole = ends.iter().filter(|end| **end <= at).count();
            match read_this(&bytes) {
                Ok(content) => {
                    // Only the last line may be wrong; with its predecessor's newline flipped, that is two in one.
                    prop_assert!(whole + 2 >= ends.len(), "{whole} of {}", ends.len());
                    prop_assert_eq!(&content.records, &records[..whole - 1]);
                    prop_assert_eq!(&content.torn, &bytes[ends[whole - 1]..]);
                }
                Err(Unusable::NotAJournal) => prop_assert_eq!(whole, 0),
                Err(Unusable::Damaged { line, offset }) => {
                    prop_assert_eq!((line, offset), (whole + 1, ends[whole - 1] as u64));
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn any_bytes_behind_a_header_are_read_or_refused(garbage: Vec<u8>) {
            let (mut bytes, _) = journal(&[]);
            bytes.extend(garbage);
            if let Ok(content) = read_this(&bytes) {
                prop_assert!(content.records.is_empty());
            }
        }
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let (mut bytes, ends) = journal(&[]);
        bytes.resize(bytes.len() + 10 * MAX_LINE, b'x');
        let offset = ends[0] as u64;
        assert!(matches!(read_this(&bytes), Err(Unusable::Damaged { line: 2, offset: at }) if at == offset));
    }

    #[test]
    fn a_journal_of_another_boot_is_not_read_on() {
        let (mut bytes, _) = journal(&[]);
        bytes.extend_from_slice(b"not a line\nat all\n");
        assert!(read::<String>(&*bytes, &BootId::new("the next")).unwrap().is_none());
    }

    #[test]
    fn a_later_format_is_told_from_garbage() {
        let mut bytes = Vec::new();
        line::encode(&serde_json::json!({ "peermem_lease_journal": 2, "new": [] }), &mut bytes).unwrap();
        assert!(matches!(read_this(&bytes), Err(Unusable::OtherFormat { found: 2 })));
        for garbage in ["", "\n", "{}\n", "[general]\nkey = 1\n"] {
            assert!(matches!(read_this(garbage.as_bytes()), Err(Unusable::NotAJournal)), "{garbage:?}");
        }
    }

    #[test]
    fn a_record_of_another_shape_is_named() {
        let (mut bytes, _) = journal(&["a".to_owned()]);
        line::encode(&7, &mut bytes).unwrap();
        let error = read_this(&bytes).unwrap_err();
        assert!(error.to_string().starts_with("line 3 is intact but"), "{error}");
    }
}
