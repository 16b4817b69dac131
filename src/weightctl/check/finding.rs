//! The findings of the checks, and their text for people. Pure.

use std::{borrow::Cow, fmt::Write as _};

use serde::Serialize;

use crate::weightctl::table::Tone;

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckResult {
    /// Correct.
    Ok,
    /// Works, but an operator should know about it.
    Warn,
    /// Does not work.
    Fail,
    /// Not checked, or not present on this host.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The name of the check, one or two words; stable.
    pub(super) check: Cow<'static, str>,
    /// The result.
    pub(super) verdict: CheckResult,
    /// What the check found.
    pub(super) detail: String,
    /// What to do about it: a command that can be pasted, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

impl Finding {
    fn new(check: impl Into<Cow<'static, str>>, verdict: CheckResult, detail: impl Into<String>) -> Self {
        Self { check: check.into(), verdict, detail: detail.into(), hint: None }
    }

    pub(super) fn ok(check: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(check, CheckResult::Ok, detail)
    }

    pub(super) fn skip(check: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(check, CheckResult::Skip, detail)
    }

    /// Replaces the hint.
    pub(super) fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    pub(super) fn warn(
        check: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, CheckResult::Warn, detail) }
    }

    pub(super) fn fail(
        check: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, CheckResult::Fail, detail) }
    }
}

/// The findings about one part of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Section {
    /// `consul`, `haproxy` or `weightd`.
    pub(super) part: &'static str,
    /// The address or the name of the part; may be empty.
    pub(super) name: String,
    /// In order: a check may depend on the ones before it.
    pub(super) findings: Vec<Finding>,
}

/// All findings. The JSON of `weightctl check`; stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// True if no check failed.
    pub(super) ok: bool,
    /// One section for each part.
    pub(super) sections: Vec<Section>,
}

/// Narrowest column of details.
const MIN_ROOM: usize = 24;

impl Report {
    pub(super) fn of(sections: Vec<Section>) -> Self {
        let failed = |section: &Section| section.findings.iter().any(|finding| finding.verdict == CheckResult::Fail);
        Self { ok: !sections.iter().any(failed), sections }
    }

    /// The report for people. A word and a colour show each result. On a terminal of `columns` characters, the details wrap
    /// between words. A hint stays on one line, so that it can be pasted.
    pub(super) fn table(&self, columns: Option<usize>) -> String {
        let findings = || self.sections.iter().flat_map(|section| &section.findings);
        let width = findings().map(|finding| finding.check.len()).max().unwrap_or_default();
        let mut text = String::new();
        for (number, Section { part, name, findings }) in self.sections.iter().enumerate() {
            let title = format!("{part} {}", shown(name));
            let gap = if number > 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{}", Tone::Strong.paint(title.trim_end()));
            for Finding { check, verdict, detail, hint } in findings {
                let (word, tone) = match verdict {
                    CheckResult::Ok => ("ok  ", Tone::Good),
                    CheckResult::Warn => ("warn", Tone::Warn),
                    CheckResult::Fail => ("FAIL", Tone::Bad),
                    CheckResult::Skip => ("-   ", Tone::Faint),
                };
                let indent = "  ok    ".len() + width + 2;
                let detail = wrapped(&shown(detail), indent, columns);
                let _ = writeln!(text, "  {}  {check:width$}  {detail}", tone.paint(word));
                if let Some(hint) = hint {
                    let _ = writeln!(text, "        {} {}", Tone::Strong.paint("hint:"), shown(hint));
                }
            }
        }
        let count = |verdict| findings().filter(|finding| finding.verdict == verdict).count();
        let (failed, warned) = (count(CheckResult::Fail), count(CheckResult::Warn));
        let warnings = if warned == 1 { "1 warning".to_owned() } else { format!("{warned} warnings") };
        let summary = match (failed, warned) {
            (0, 0) => Tone::Good.paint("no problem found"),
            (0, _) => format!("nothing failed; {warnings}"),
            (failed, 0) => Tone::Bad.paint(&format!("{failed} failed")),
            (failed, _) => format!("{}; {warnings}", Tone::Bad.paint(&format!("{failed} failed"))),
        };
        let _ = writeln!(text, "\n{summary}");
        text
    }
}

/// The text with line ends between words, so that no line is longer than `columns`. The lines after the first one start with
/// `indent` blanks. A word that is too long for a line stays whole.
fn wrapped(text: &str, indent: usize, columns: Option<usize>) -> String {
    let Some(room) = columns.map(|columns| columns.saturating_sub(indent).max(MIN_ROOM)) else {
        return text.to_owned();
    };
    let (mut lines, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            let _ = write!(lines, "\n{:indent$}", "");
            used = 0;
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
}

/// Escapes control characters in a text from outside. Keeps its full length, quotes and backslashes: a command in it
/// can be pasted.
fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '"' | '\'' => safe.push(c),
            _ => safe.extend(c.escape_debug()),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::of(vec![
            Section {
                part: "consul",
                name: "http://127.0.0.1:8500, root weightd/".to_owned(),
                findings: vec![
                    Finding::ok("leader", "127.0.0.1:8300"),
                    Finding::fail("write", "`set` would be denied", "consul acl …"),
                ],
            },
            Section {
                part: "haproxy",
                name: "edge at unix:/run/haproxy/\u{202e}admin.sock".to_owned(),
                findings: vec![Finding::warn("cookie", "app: pinned", "nothing"), Finding::skip("state file", "none")],
            },
        ])
    }

    #[test]
    fn a_report_has_a_table_and_a_json_form() {
        insta::assert_snapshot!(anstream::adapter::strip_str(&report().table(None)), @r"
        consul http://127.0.0.1:8500, root weightd/
          ok    leader      127.0.0.1:8300
          FAIL  write       `set` would be denied
                hint: consul acl …

        haproxy edge at unix:/run/haproxy/\u{202e}admin.sock
          warn  cookie      app: pinned
                hint: nothing
          -     state file  none

        1 failed; 1 warning
        ");
        let json = serde_json::to_value(report()).unwrap();
        let expected = serde_json::json!({ "check": "write", "verdict": "fail", "detail": "`set` would be denied", "hint": "consul acl …" });
        assert_eq!(json["ok"], false);
        assert_eq!(json["sections"][0]["part"], "consul");
        assert_eq!(json["sections"][0]["findings"][1], expected);
        assert_eq!(json["sections"][0]["findings"][0].get("hint"), None);
    }

    #[test]
    fn details_wrap_between_words_to_the_width_of_the_terminal() {
        let finding =
            Finding::warn("write", "a detail of several words that is longer than the line", "a-hint ".repeat(9));
        let report = Report::of(vec![Section { part: "consul", name: String::new(), findings: vec![finding] }]);
        let text = anstream::adapter::strip_str(&report.table(Some(40))).to_string();
        assert!(
            text.contains("  warn  write  a detail of several words\n               that is longer than the\n"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 40 || line.contains("hint:")), "{text}");
    }

    #[test]
    fn a_hint_is_not_shortened_and_can_be_pasted() {
        let hint = format!("sed -n 's/\\(.*\\)/\\1/p' {}", "x".repeat(300));
        let report = Report::of(vec![Section {
            part: "consul",
            name: String::new(),
            findings: vec![Finding::fail("write", "a\u{1b}[31m\nb", hint.clone())],
        }]);
        let table = report.table(Some(80));
        assert!(table.contains(&hint), "{table}");
        assert!(table.contains(r"a\u{1b}[31m\nb"), "{table}");
    }

    #[test]
    fn a_warning_is_no_failure() {
        assert!(!report().ok);
        let mut sections = report().sections;
        sections.remove(0);
        assert!(Report::of(sections).ok);
        assert!(Report::of(Vec::new()).table(None).contains("no problem found"));
    }
}
