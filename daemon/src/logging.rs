//! Where log lines go: the journal when systemd runs us, else stderr.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use rustix::fs::fstat;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. A filter that can't be read is reported, and `info` taken instead.
pub(crate) fn start(filter: &str) {
    let parsed = EnvFilter::try_new(filter);
    let wrong = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new("info"));
    // Where stderr is the journal, fields can travel as fields.
    let is_journal = is_journal(std::env::var_os("JOURNAL_STREAM").as_deref(), io::stderr());
    let journal = is_journal.then(tracing_journald::layer).and_then(Result::ok);
    let output = match journal {
        Some(journal) => journal.with_field_prefix(Some("PEERMEM".to_owned())).boxed(),
        None => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    tracing_subscriber::registry().with(output).with(filter).init();
    if let Some(wrong) = wrong {
        tracing::warn!("--log: {wrong}; logging at info");
    }
}

/// Whether `stderr` is the journal's stream, whose device and inode systemd puts into `JOURNAL_STREAM`. A process that was
/// started by a service inherits the variable even if its own stderr is a pipe or a terminal (systemd.exec(5)).
fn is_journal(variable: Option<&OsStr>, stderr: impl AsFd) -> bool {
    let named = variable.and_then(OsStr::to_str).and_then(|text| text.split_once(':'));
    let (Some((device, inode)), Ok(stat)) = (named, fstat(stderr)) else { return false };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn an_inherited_variable_does_not_make_stderr_the_journal() {
        let (stderr, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let stat = fstat(&stderr).unwrap();
        let named = |device, inode| OsString::from(format!("{device}:{inode}"));
        assert!(is_journal(Some(&named(stat.st_dev, stat.st_ino)), &stderr));
        assert!(!is_journal(Some(&named(stat.st_dev, stat.st_ino + 1)), &stderr));
        assert!(!is_journal(Some(OsStr::new("8")), &stderr));
        assert!(!is_journal(None, &stderr));
    }
}
