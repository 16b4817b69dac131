//! The findings of a check, and how they are shown. Pure.

use std::{borrow::Cow, fmt::Write as _};

use serde::Serialize;

use crate::weightctl::table::Tone;

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckResult {
    /// It is right.
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be checked, or is not on this host.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What, in a word or two; stable.
    pub(super) check: Cow<'static, str>,
    /// Its result.
    pub(super) verdict: CheckResult,
    /// What was found.
    pub(super) detail: String,
    /// What to do about it, ready to be pasted where possible.
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

    /// Adds a command that improves what was found.
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

/// The findings about one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Section {
    /// `consul`, `haproxy` or `weightd`.
    pub(super) part: &'static str,
    /// Which one.
    pub(super) name: String,
    /// Each depends on those before it.
    pub(super) findings: Vec<Finding>,
}

/// All findings. The JSON of `weightctl check`; stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Whether nothing failed.
    pub(super) ok: bool,
    /// One for each part.
    pub(super) sections: Vec<Section>,
}

impl Report {
    pub(super) fn of(sections: Vec<Section>) -> Self {
        let failed = |section: &Section| section.findings.iter().any(|finding| finding.verdict == CheckResult::Fail);
        Self { ok: !sections.iter().any(failed), sections }
    }

    /// For people: the result is a word and a colour.
    pub(super) fn table(&self) -> String {
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
                let _ = writeln!(text, "  {}  {check:width$}  {}", tone.paint(word), shown(detail));
                if let Some(hint) = hint {
                    let _ = writeln!(text, "        {} {}", Tone::Strong.paint("hint:"), shown(hint));
                }
            }
        }
        let count = |verdict| findings().filter(|finding| finding.verdict == verdict).count();
        let (failed, warned) = (count(CheckResult::Fail), count(CheckResult::Warn));
        let warnings = if warned == 1 { "1 warning".to_owned() } else { format!("{warned} warnings") };
        let sum = match (failed, warned) {
            (0, 0) => Tone::Good.paint("nothing is wrong"),
            (0, _) => format!("nothing failed; {warnings}"),
            (failed, 0) => Tone::Bad.paint(&format!("{failed} failed")),
            (failed, _) => format!("{}; {warnings}", Tone::Bad.paint(&format!("{failed} failed"))),
        };
        let _ = writeln!(text, "\n{sum}");
        text
    }
}

/// Text with pieces from outside, whole: a command stays one that can be pasted, and nothing in it moves a cursor.
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
    fn it_is_shown_for_people_and_for_programs() {
        insta::assert_snapshot!(anstream::adapter::strip_str(&report().table()), @r"
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
    fn a_hint_is_shown_whole_and_as_it_has_to_be_pasted() {
        let hint = format!("sed -n 's/\\(.*\\)/\\1/p' {}", "x".repeat(300));
        let report = Report::of(vec![Section {
            part: "consul",
            name: String::new(),
            findings: vec![Finding::fail("write", "a\u{1b}[31m\nb", hint.clone())],
        }]);
        let table = report.table();
        assert!(table.contains(&hint), "{table}");
        assert!(table.contains(r"a\u{1b}[31m\nb"), "{table}");
    }

    #[test]
    fn only_a_failure_is_one() {
        assert!(!report().ok);
        let mut sections = report().sections;
        sections.remove(0);
        assert!(Report::of(sections).ok);
        assert!(Report::of(Vec::new()).table().contains("nothing is wrong"));
    }
}
