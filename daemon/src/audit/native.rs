//! Records as journald takes them: its native protocol (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md), with the fields that
//! systemd.journal-fields(7) names and ours behind `PEERMEM_`, as in the log.

use super::Record;

/// `LOG_NOTICE` of syslog(3), which decisions have in the log as well.
const PRIORITY: &str = "5";

/// The fields of one entry.
pub(super) fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let standard = [
        ("MESSAGE", &*record.message),
        ("PRIORITY", PRIORITY),
        ("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME")),
    ];
    for (name, value) in standard {
        put(&mut bytes, name, value);
    }
    for (name, value) in record.fields() {
        put(&mut bytes, &format!("PEERMEM_{}", name.to_ascii_uppercase()), &value);
    }
    bytes
}

/// A field in the form that takes any value: with its length in front, a newline in it ends nothing.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}
