//! The log: one line per event on standard error.
//!
//! Owns the format of a line for a terminal, for systemd's journal and as JSON. Escapes control and bidirectional
//! characters in every message and field. Text from outside must not be able to start a second line, move the cursor
//! or hide itself.

pub mod budget;
mod json;
mod line;
pub mod settings;

use std::{
    io::{self, IsTerminal as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use json::JsonLine;
use line::{Fields, TextLine};
use tracing::{Subscriber, subscriber::SetGlobalDefaultError};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{self, MakeWriter, format::JsonFields},
    layer::{Layered, SubscriberExt as _},
    registry::LookupSpan,
    reload,
};

use crate::base::telemetry::settings::{Filter, Format, Log};

/// [`init`] was called twice: the process has a log already.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the log")]
pub struct TelemetryError(#[from] SetGlobalDefaultError);

/// Changes the settings of a running log.
#[derive(Debug, Clone)]
pub struct Handle(reload::Handle<Targets, Registry>);

impl Handle {
    /// Replaces the filter of the log.
    pub fn set_level(&self, filter: &Filter) {
        // This fails only if the log no longer exists. Then there is nothing to change and no log for an error.
        let _gone = self.0.reload(filter.targets().clone());
    }
}

/// Starts the log of this process on standard error.
///
/// [`Format::Auto`] selects the journal format if systemd's `JOURNAL_STREAM` names standard error, and text otherwise.
/// Text has colours on a terminal, unless `NO_COLOR` is set.
///
/// # Errors
/// [`TelemetryError`] if the process has a log already.
pub fn init(log: &Log) -> Result<Handle, TelemetryError> {
    let style = Style::new(
        log.format,
        io::stderr().is_terminal(),
        anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never,
        is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref(), stderr_identity()),
    );
    let (subscriber, handle) = subscriber(&log.level, style, io::stderr);
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(handle)
}

/// The format of a line, after [`Format::Auto`] is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Text { colours: bool },
    Journal,
    Json,
}

impl Style {
    fn new(format: Format, terminal: bool, colours: bool, journal: bool) -> Self {
        match format {
            Format::Auto if journal && !terminal => Self::Journal,
            Format::Auto | Format::Text => Self::Text { colours },
            Format::Journal => Self::Journal,
            Format::Json => Self::Json,
        }
    }
}

/// Whether the file `identity` (device, inode) is the journal. The variable alone is not enough: child processes
/// inherit it even if their standard error is another file.
fn is_journal(journal_stream: Option<&str>, identity: Option<(u64, u64)>) -> bool {
    let named = journal_stream.and_then(|stream| {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    });
    named.is_some() && named == identity
}

fn stderr_identity() -> Option<(u64, u64)> {
    let fd: OwnedFd = io::stderr().as_fd().try_clone_to_owned().ok()?;
    let metadata = std::fs::File::from(fd).metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;

fn subscriber<W>(filter: &Filter, style: Style, writer: W) -> (impl Subscriber + Send + Sync + use<W>, Handle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter.targets().clone());
    let filtered: Filtered = tracing_subscriber::registry().with(filter);
    (filtered.with(lines(style, writer)), Handle(handle))
}

fn lines<S, W>(style: Style, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let base = fmt::layer().with_writer(writer).log_internal_errors(false);
    match style {
        Style::Text { colours } => {
            base.with_ansi(colours).fmt_fields(Fields).event_format(TextLine { journal: false }).boxed()
        }
        Style::Journal => base.with_ansi(false).fmt_fields(Fields).event_format(TextLine { journal: true }).boxed(),
        Style::Json => base.with_ansi(false).fmt_fields(JsonFields::new()).event_format(JsonLine).boxed(),
    }
}

#[cfg(test)]
mod tests;
