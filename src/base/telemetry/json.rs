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

use super::line::needs_escape;
use crate::base::chain::Chain;

/// Writes one JSON object per line: `timestamp`, `level`, `target`, `message`, the fields of the event and the fields
/// of its spans. If a field name occurs more than once, the event wins, then the innermost span.
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

/// The keys of the line itself. A field with one of these names is renamed, because a key must be unique.
const RESERVED_KEYS: [&str; 4] = ["timestamp", "level", "target", "message"];

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
            // A span without fields has an empty text, which is not JSON.
            let fields = kept.and_then(|kept| serde_json::from_str::<Map<String, Value>>(kept).ok());
            for (name, value) in fields.into_iter().flatten() {
                parts.fields.entry(field_key(&name)).or_insert(value);
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
        // JSON escapes only the first 32 characters. All other unsafe characters are inside strings here.
        for c in line.chars() {
            if needs_escape(c) {
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

/// The field that holds the text of an event in tracing.
const MESSAGE: &str = "message";

/// Returns the JSON key of the field `name`.
fn field_key(name: &str) -> String {
    if RESERVED_KEYS.contains(&name) { format!("{name}_") } else { name.to_owned() }
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
        self.fields.insert(field_key(field.name()), value);
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
