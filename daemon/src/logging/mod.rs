//! Where log lines go: the journal when systemd runs us, else stderr.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use rustix::fs::fstat;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

mod clock;
mod fields;

use clock::Clock;
use fields::Fields;

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
        None => lines(io::stderr, io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry().with(output).with(filter).init();
    if let Some(wrong) = wrong {
        tracing::warn!("--log: {wrong}; logging at info");
    }
}

/// A line for each event.
fn lines<S, W>(writer: W, ansi: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_timer(Clock).fmt_fields(Fields);
    layer.with_ansi(ansi).with_target(false)
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
    use std::{
        ffi::OsString,
        fs::File,
        io::{Read, Seek},
    };

    use super::*;

    /// What a terminal or a file gets to see of what `say` says.
    fn written(ansi: bool, say: impl FnOnce()) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let layer = lines(File::try_clone(&file).unwrap(), ansi);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_has_its_message_and_its_fields() {
        let line =
            written(false, || tracing::warn!(uid = 7, region = "vram", lease = %3, "lease {} ended", 3));
        assert!(line.ends_with(" WARN lease 3 ended uid=7 region=\"vram\" lease=3\n"), "{line}");
    }

    #[test]
    fn nobody_s_words_make_a_line_or_reach_a_terminal_as_commands() {
        let hostile = "x\nERROR all is lost\x1b]0;title\x07\u{9b}2J\r\u{7f}\u{e9}";
        let line = written(false, || tracing::info!(error = %hostile, text = hostile, "{hostile}"));
        assert_eq!(line.matches(|char: char| char.is_control()).collect::<String>(), "\n", "{line:?}");
        let shown =
            r"x\nERROR all is lost\u{1b}]0;title\u{7}\u{9b}2J\r\u{7f}\u{e9}".replace(r"\u{e9}", "\u{e9}");
        assert!(line.contains(&format!(" INFO {shown} error={shown} ")), "{line:?}");
    }

    #[test]
    fn names_are_dimmed_on_a_terminal() {
        let line = written(true, || tracing::info!(uid = 7, "hello"));
        assert!(line.contains("hello \u{1b}[2muid=\u{1b}[0m7"), "{line:?}");
    }

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
