//! The log: standard error, one line an event.
//!
//! Owns how a line looks on a terminal, in systemd's journal and as JSON. Must never let text from outside
//! make a second line, move a cursor or hide itself: whatever a message or a field holds, control and
//! bidirectional characters leave here escaped.

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

/// A log is being written already: [`init`] was called twice.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the log")]
pub struct TelemetryError(#[from] SetGlobalDefaultError);

/// What can still be changed about a running log.
#[derive(Debug, Clone)]
pub struct Handle(reload::Handle<Targets, Registry>);

impl Handle {
    /// Logs what `filter` lets through from now on.
    pub fn set_level(&self, filter: &Filter) {
        // It fails only when the log is gone, and then there is nothing to change and nowhere to say so.
        let _gone = self.0.reload(filter.targets().clone());
    }
}

/// Starts the log of this process on standard error.
///
/// [`Format::Auto`] becomes the journal's format if standard error is the journal, as systemd's
/// `JOURNAL_STREAM` says, and text otherwise. Text has colours on a terminal, unless `NO_COLOR` forbids them.
///
/// # Errors
/// [`TelemetryError`] if a log was started before.
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

/// How lines look, once it is known where they go.
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

/// Whether the file `identity` (device, inode) is the journal. The variable alone does not tell: it is
/// inherited by whatever a unit starts, wherever that writes.
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
