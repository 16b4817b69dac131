use std::fmt::{self, Debug};

use anstyle::{AnsiColor, Style};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::settings::OWN;
use crate::base::chain::Chain;

/// Writes one text line: the message, then the fields of the event and of its spans as `key=value`.
pub(super) struct TextLine {
    /// Whether to write the journal format: a priority instead of time and level.
    pub(super) journal: bool,
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let level = *metadata.level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        } else {
            let dim = style(&writer, Style::new().dimmed());
            write!(writer, "{dim}")?;
            SystemTime.format_time(&mut writer)?;
            write!(writer, "{dim:#}")?;
            let colour = style(&writer, colour(level).on_default());
            write!(writer, " {colour}{level:>5}{colour:#} ")?;
        }
        // The target matters for lines of libraries, and for debugging.
        let target = metadata.target();
        let ours = OWN.contains(&target.split("::").next().unwrap_or_default());
        if !ours || level > Level::INFO {
            write!(writer, "{target}: ")?;
        }

        let mut parts = Parts::default();
        event.record(&mut parts);
        let mut separator = "";
        for part in [&parts.message, &parts.fields] {
            if !part.is_empty() {
                write!(writer, "{separator}{part}")?;
                separator = " ";
            }
        }
        for span in ctx.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(writer, "{separator}{fields}")?;
                separator = " ";
            }
        }
        writeln!(writer)
    }
}

/// Returns the syslog priority that systemd reads from `<n>` at the start of a line.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn colour(level: Level) -> AnsiColor {
    match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        Level::DEBUG => AnsiColor::Blue,
        _ => AnsiColor::Magenta,
    }
}

/// Returns `style` if the writer uses colours, else no style.
fn style(writer: &Writer<'_>, style: Style) -> Style {
    if writer.has_ansi_escapes() { style } else { Style::new() }
}

/// Formats the fields of a span. tracing stores the result until an event of the span is written.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut parts = Parts::default();
        fields.record(&mut parts);
        writer.write_str(&parts.fields)
    }
}

/// The escaped message and fields of a line.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn push(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.extend(value.chars().flat_map(|c| escaped(c, false)));
            return;
        }
        if !self.fields.is_empty() {
            self.fields.push(' ');
        }
        self.fields.push_str(field.name());
        self.fields.push('=');
        if needs_no_quotes(value) {
            self.fields.push_str(value);
        } else {
            self.fields.push('"');
            self.fields.extend(value.chars().flat_map(|c| escaped(c, true)));
            self.fields.push('"');
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, &Chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, &format!("{value:?}"));
    }
}

/// Whether a value without quotes cannot be confused with the text around it.
fn needs_no_quotes(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| !matches!(c, ' ' | '"' | '\\' | '=') && !needs_escape(c))
}

/// Whether a character must be escaped in the output: the control, bidirectional, invisible and unassigned characters
/// that `char::escape_debug` escapes.
pub(super) fn needs_escape(c: char) -> bool {
    !matches!(c, '"' | '\'' | '\\') && c.escape_debug().len() > 1
}

/// Returns the escaped form of a character. `quoted` is true for a character inside quotes.
fn escaped(c: char, quoted: bool) -> impl Iterator<Item = char> {
    let escape = needs_escape(c) || quoted && matches!(c, '"' | '\\');
    let (escape, plain) = if escape { (Some(c.escape_debug()), None) } else { (None, Some(c)) };
    escape.into_iter().flatten().chain(plain)
}
