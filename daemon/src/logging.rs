//! Where log lines go: the journal when systemd runs us, else stderr.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. A filter that can't be read is reported, and `info` taken instead.
pub(crate) fn start(filter: &str) {
    let parsed = EnvFilter::try_new(filter);
    let wrong = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new("info"));
    // systemd sets JOURNAL_STREAM when stderr is the journal: then fields can travel as fields.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let output = match journal {
        Some(journal) => journal.with_field_prefix(Some("PEERMEM".to_owned())).boxed(),
        None => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    tracing_subscriber::registry().with(output.with_filter(filter)).init();
    if let Some(wrong) = wrong {
        tracing::warn!("--log: {wrong}; logging at info");
    }
}
