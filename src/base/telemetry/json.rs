use std::fmt::{self, Debug};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use super::line::hostile;
use crate::base::chain::Chain;

/// A JSON object a line: `timestamp`, `level`, `target`, `message`, and beside them the fields of the event
/// and those of its spans, of which the innermost of a name counts.
pub(super) struct JsonLine;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: &'a Map<String, Value>,
}

/// What a field may not be called, lest the object has a key twice.
const TAKEN: [&str; 4] = ["timestamp", "level", "target", "message"];

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut parts = Parts::default();
        event.record(&mut parts);
        for span in ctx.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let kept = extensions.get::<FormattedFields<JsonFields>>();
            // A span without fields is kept as no text at all.
            let fields = kept.and_then(|kept| serde_json::from_str::<Map<String, Value>>(kept).ok());
            for (name, value) in fields.into_iter().flatten() {
                parts.fields.entry(free(&name)).or_insert(value);
            }
        }
        let line = serde_json::to_string(&Line {
            timestamp: &timestamp,
            level: event.metadata().level().as_str(),
            target: event.metadata().target(),
            message: &parts.message,
            fields: &parts.fields,
        })
        .map_err(|_| fmt::Error)?;
        // JSON itself lets everything pass but the first 32 characters. Whatever is left stands within a string.
        for c in line.chars() {
            if hostile(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_char(c)?;
            }
        }
        writeln!(writer)
    }
}

/// The field in which tracing carries the text of an event.
const MESSAGE: &str = "message";

/// The key of a field called `name`.
fn free(name: &str) -> String {
    if TAKEN.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: Map<String, Value>,
}

impl Parts {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        if let (MESSAGE, Value::String(text)) = (field.name(), &value) {
            self.message.clone_from(text);
            return;
        }
        self.fields.insert(free(field.name()), value);
    }
}

impl Visit for Parts {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, Chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, format!("{value:?}"));
    }
}
