use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tracing::{Level, debug, error, info, info_span, trace, warn};

use super::*;

/// A writer that stores its output.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `events` and returns their log.
fn logged_with(style: Style, filter: &str, events: impl FnOnce(&Handle)) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let (subscriber, handle) = subscriber(&filter.parse().unwrap(), style, move || writer.clone());
    tracing::subscriber::with_default(subscriber, || events(&handle));
    String::from_utf8(std::mem::take(&mut captured.0.lock().unwrap())).unwrap()
}

fn logged(style: Style, events: impl FnOnce()) -> String {
    logged_with(style, "trace", |_| events())
}

const PLAIN: Style = Style::Text { colours: false };
const STYLES: [Style; 3] = [PLAIN, Style::Journal, Style::Json];

#[test]
fn the_journal_gets_priorities_and_neither_times_nor_colours() {
    let log = logged(Style::Journal, || {
        error!("a");
        warn!(backend = "app", "b");
        info!(from = 1, to = 10, by = "alice bob", "weight changed");
        debug!("d");
        trace!("e");
    });
    assert_eq!(
        log,
        "<3>a\n<4>b backend=app\n<6>weight changed from=1 to=10 by=\"alice bob\"\n\
         <7>weightd::base::telemetry::tests: d\n<7>weightd::base::telemetry::tests: e\n"
    );
}

#[test]
fn the_fields_of_spans_are_appended() {
    let log = logged(Style::Journal, || {
        let outer = info_span!("instance", instance = "edge", late = tracing::field::Empty).entered();
        outer.record("late", "x y");
        let _inner = info_span!("reconcile", index = 7).entered();
        info!(server = %"green", "done");
    });
    assert_eq!(log, "<6>done server=green index=7 instance=edge late=\"x y\"\n");
}

#[test]
fn an_error_is_logged_with_its_sources() {
    let error = crate::consul::settings::TokenError::Read { path: "/t".into(), source: io::Error::other("no\nluck") };
    let log = logged(Style::Journal, || warn!(error = &error as &dyn std::error::Error, "held"));
    assert_eq!(log, "<4>held error=\"failed to read the token file /t: no\\nluck\"\n");
}

#[test]
fn text_has_a_time_and_a_level_and_colours_only_on_a_terminal() {
    let log = logged(PLAIN, || info!(n = 1, "hello"));
    let (time, rest) = log.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{log}");
    assert_eq!(rest, " INFO hello n=1\n");

    let log = logged(Style::Text { colours: true }, || warn!(n = "\u{1b}[31m", "hello\u{1b}[2J"));
    assert!(log.contains("\u{1b}[33m WARN\u{1b}[0m hello\\u{1b}[2J n=\"\\u{1b}[31m\"\n"), "{log:?}");
}

#[test]
fn json_is_one_object_a_line() {
    let log = logged(Style::Json, || {
        let _outer = info_span!("instance", index = 1, from = 2, level = "x").entered();
        let _span = info_span!("reconcile", backend = "a\u{202e}b", index = 7).entered();
        let error = anyhow::anyhow!("inner").context("outer");
        info!(
            error = AsRef::<dyn std::error::Error>::as_ref(&error),
            from = 1,
            by = "x\n\u{7f}\u{9b}\u{e0001}",
            "weight changed"
        );
    });
    let object: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(object["level"], "INFO");
    assert_eq!(object["message"], "weight changed");
    assert_eq!((&object["from"], &object["by"]), (&1.into(), &"x\n\u{7f}\u{9b}\u{e0001}".into()));
    assert_eq!(
        (&object["backend"], &object["index"]),
        (&"a\u{202e}b".into(), &7.into()),
        "the event wins over the inner span, and that over the outer one"
    );
    assert_eq!((&object["level_"], &object["error"]), (&"x".into(), &"outer: inner".into()));
    assert!(log.is_ascii() && log.lines().count() == 1, "{log}");
}

proptest! {
    #[test]
    fn text_from_outside_is_escaped_in_the_output(text in "(?s).{0,20}[\\x00-\\x1f\\x7f-\\x9f\u{2028}\u{202a}-\u{202e}\u{2066}-\u{2069}].{0,20}") {
        for style in STYLES {
            let log = logged(style, || {
                let _span = info_span!("span", text, shown = %text, debugged = ?text).entered();
                info!(text, shown = %text, debugged = ?text, "{text}");
            });
            prop_assert_eq!(log.matches('\n').count(), 1, "{}", log);
            let line = log.trim_end_matches('\n');
            let raw = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            prop_assert!(!line.contains(raw), "{:?}", line);
        }
    }

    #[test]
    fn a_value_cannot_be_confused_with_another_field(text in "[a-z =\"\\\\\n]{0,12}") {
        let log = logged(Style::Journal, || info!(text, after = 1, "m"));
        let value = log.strip_prefix("<6>m text=").unwrap().strip_suffix(" after=1\n").unwrap();
        if value.starts_with('"') {
            prop_assert_eq!(serde_json::from_str::<String>(value).unwrap(), text);
        } else {
            prop_assert_eq!(value, text);
        }
    }
}

#[test]
fn libraries_stay_at_warn_and_their_lines_have_a_target() {
    let log = logged_with(Style::Journal, "debug", |_| {
        info!(target: "hyper::client", "no");
        warn!(target: "hyper::client", "yes");
    });
    assert_eq!(log, "<4>hyper::client: yes\n");
}

#[test]
fn the_level_can_be_changed_at_runtime() {
    let log = logged_with(Style::Journal, "info", |handle| {
        info!("one");
        debug!("no");
        handle.set_level(&"weightd=debug".parse().unwrap());
        debug!("two");
        handle.set_level(&"error".parse().unwrap());
        info!("no");
        assert!(!tracing::enabled!(Level::WARN));
    });
    assert_eq!(log, "<6>one\n<7>weightd::base::telemetry::tests: two\n");
}

#[test]
fn the_style_depends_on_the_destination_of_the_log() {
    let text = |colours| Style::Text { colours };
    assert_eq!(Style::new(Format::Auto, true, true, true), text(true), "a terminal is not the journal");
    assert_eq!(Style::new(Format::Auto, false, false, true), Style::Journal);
    assert_eq!(Style::new(Format::Auto, false, false, false), text(false));
    assert_eq!(Style::new(Format::Text, false, false, true), text(false));
    assert_eq!(Style::new(Format::Journal, true, true, false), Style::Journal);
    assert_eq!(Style::new(Format::Json, true, true, true), Style::Json);
}

#[test]
fn the_journal_is_detected_by_device_and_inode_and_not_by_the_variable_alone() {
    assert!(is_journal(Some("8:4711"), Some((8, 4711))));
    for (variable, identity) in [
        (None, None),
        (None, Some((8, 4711))),
        (Some("8:4711"), None),
        (Some("8:4711"), Some((8, 4712))),
        (Some("8:4711"), Some((9, 4711))),
        (Some("nonsense"), Some((8, 4711))),
        (Some("8:"), None),
    ] {
        assert!(!is_journal(variable, identity), "{variable:?} {identity:?}");
    }
}
