//! The runbook has a section for everything that somebody can be paged with, and promises nothing that is not there.

use std::collections::BTreeSet;

use weightd_core::{
    reasons,
    rollout::{Phase, source::NoData},
};

use crate::{layering::sources, pages::page};

fn runbook() -> &'static str {
    &page("docs/runbook.md").text
}

/// The text of a chapter.
fn chapter(title: &str) -> &'static str {
    let (_, rest) = runbook().split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no chapter {title}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// The sections of a chapter, by the word that is their heading.
fn sections(title: &str) -> Vec<(&'static str, &'static str)> {
    let sections = chapter(title).split("\n### `").skip(1);
    sections.map(|section| section.split_once('`').unwrap_or_else(|| panic!("no word: {section}"))).collect()
}

fn words(title: &str) -> BTreeSet<&'static str> {
    let words: Vec<_> = sections(title).into_iter().map(|(word, _)| word).collect();
    let set: BTreeSet<_> = words.iter().copied().collect();
    assert_eq!(words.len(), set.len(), "a word has two sections: {words:?}");
    set
}

fn source(path: &str) -> String {
    let source = sources().into_iter().find(|source| source.path == path);
    source.unwrap_or_else(|| panic!("there is no {path} any more")).text
}

/// The words that a function of the source chooses between, from its first line to its last.
fn chosen(path: &str, first: &str, last: &str) -> BTreeSet<String> {
    let source = source(path);
    let (_, rest) = source.split_once(first).unwrap_or_else(|| panic!("no {first} in {path}"));
    let end = rest.find(last).unwrap_or(rest.len());
    let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let words = rest[..end].split('"').skip(1).step_by(2).filter(|text| is_word(text));
    words.filter(|word| *word != "admin").map(str::to_owned).collect()
}

fn owned(words: BTreeSet<&str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_reason_has_its_section_and_no_other_word_has() {
    assert_eq!(words("Backends"), reasons::WORDS.into_iter().collect());
    let mut consul = chosen("consul/error.rs", "pub fn reason(&self)", "\n    }\n");
    consul.insert("overdue".to_owned());
    assert_eq!(owned(words("Consul")), consul);
    let mut haproxy = chosen("haproxy/socket.rs", "pub fn reason(&self)", "\n    }\n");
    haproxy.extend(chosen("weightd/session/connection.rs", "\nfn unusable(", "\n}\n"));
    haproxy.insert("two_processes".to_owned());
    assert!(haproxy.contains("not_admin") && haproxy.len() > 10, "{haproxy:?}");
    assert_eq!(owned(words("HAProxy")), haproxy);
    let mut fleet = chosen("weightctl/fleet.rs", "fn reason_of(", "\n}\n");
    // A node says this of itself.
    fleet.extend(chosen("weightd/fleet/holder.rs", "pub fn as_str(self)", "\n    }\n"));
    for no_reason in ["absent", "published"] {
        assert!(fleet.remove(no_reason), "{fleet:?}");
    }
    assert_eq!(owned(words("Fleet")), fleet);
}

/// The chapters with a section for each word.
const CHAPTERS: [&str; 10] = [
    "Backends",
    "States without a reason",
    "Consul",
    "HAProxy",
    "Fleet",
    "weightd itself",
    "Rollouts that hold",
    "Rollouts that wait for a person",
    "Rollouts that ended",
    "rolloutd itself",
];

#[test]
fn every_reason_of_a_rollout_has_its_section_and_no_other_word_has() {
    let holding = chosen("core/rollout/holding.rs", "pub const fn word(&self)", "\n    }\n");
    assert!(holding.contains("not_excluded") && holding.len() > 20, "{holding:?}");
    assert_eq!(owned(words("Rollouts that hold")), holding);
    let latches = chosen("core/rollout/state.rs", "impl Latch {", "\n}\n");
    assert!(latches.contains("inconclusive") && latches.len() > 3, "{latches:?}");
    assert_eq!(owned(words("Rollouts that wait for a person")), latches);
    let ended: BTreeSet<_> = Phase::ALL.into_iter().filter(|phase| phase.is_final()).map(Phase::as_str).collect();
    assert_eq!(words("Rollouts that ended"), ended);
    for word in ["nobody leads", "the rollout cannot be read"] {
        assert!(words("rolloutd itself").contains(word), "{word}");
    }
}

#[test]
fn every_reason_of_a_source_has_its_row_and_no_other_word_has() {
    let rows = chapter("Checks without data").lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let (words, rest): (Vec<_>, Vec<_>) = rows.unzip();
    assert_eq!(words, NoData::WORDS);
    for (word, rest) in words.iter().zip(rest) {
        // What it means, and what to do.
        assert!(rest.split(" | ").filter(|cell| cell.len() > 10).count() == 2, "{word}: {rest}");
    }
}

#[test]
fn every_section_says_what_it_means_what_happens_where_to_look_and_what_to_do() {
    for (word, text) in CHAPTERS.into_iter().flat_map(sections) {
        let mut from = 0;
        for part in ["- **Means** — ", "- **Meanwhile** — ", "- **Look** — ", "- **Do** — "] {
            let at = text[from..].find(part).unwrap_or_else(|| panic!("no `{part}` in its place in {word}"));
            from += at + part.len();
        }
    }
}

#[test]
fn every_state_of_a_backend_is_explained_and_no_other_word_is() {
    let (_, rest) = page("docs/status.md").text.split_once("\n## States of a backend\n").expect("the chapter is there");
    let rows = rest.split("\n## ").next().unwrap_or_default().lines();
    let explained = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(owned(explained), chosen("core/wire/status.rs", "pub fn as_str(self)", "\n    }\n"));
}

#[test]
fn what_status_shows_without_a_reason_has_a_section_and_so_has_a_port_in_use() {
    let shown = words("States without a reason");
    assert_eq!(shown, ["pending", "server not usable", "unknown"].into());
    assert!(source("weightctl/status/report.rs").contains("\"server not usable\""), "it has other words now");
    assert!(words("weightd itself").contains("cannot listen on"));
}

#[test]
fn the_section_about_rejected_documents_names_each_cause_that_needs_another_command() {
    let (_, text) = sections("Backends").into_iter().find(|(word, _)| *word == "rejected").expect("it is there");
    for cause in ["`split`", "`\"v\": 2`", "A document and leaves", "A leaf"] {
        assert!(text.contains(cause), "{cause}");
    }
}

#[test]
fn every_warning_of_the_log_is_explained() {
    let explained = runbook().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut told = 0;
    for message in warnings() {
        // What is a reason's own detail has the section of that reason.
        let fixed = message.split('{').next().unwrap_or_default();
        let fixed = fixed.split("; see `").next().unwrap_or_default().trim();
        if !fixed.is_empty() {
            assert!(explained.contains(fixed), "`{message}` is not explained");
            told += 1;
        }
    }
    assert!(told > 20, "only {told} warnings are found in the source");
}

/// The messages of all warnings and errors in the source: the last text between quotes of each.
fn warnings() -> Vec<String> {
    let mut messages = Vec::new();
    for source in sources() {
        let code = source.code.join("\n");
        for call in ["warn!(", "error!("].into_iter().flat_map(|call| code.split(call).skip(1)) {
            let arguments = &call[..end_of_call(call)];
            messages.push(arguments.rsplit('"').nth(1).unwrap_or_default().to_owned());
        }
    }
    messages
}

/// Where the bracket closes that was open at the start.
fn end_of_call(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[test]
fn its_alerts_ask_for_promised_metrics_and_reasons() {
    // That the page promises what is exposed, and no more, is tested with it.
    let promised = &page("docs/metrics.md").text;
    let expressions: Vec<_> = chapter("Alerts").lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(expressions.len() > 5);
    for expression in expressions {
        let names = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in names.filter(|name| name.starts_with("weightd_") || name.starts_with("rolloutd_")) {
            let known = [format!("`{name}{{"), format!("`{name}`")].iter().any(|name| promised.contains(name));
            assert!(known, "no {name}, in {expression}");
        }
        if let Some((_, rest)) = expression.split_once("reason=\"") {
            let word = rest.split('"').next().unwrap_or_default();
            let holds = expression.contains("rolloutd_holding") && words("Rollouts that hold").contains(word);
            assert!(holds || reasons::WORDS.contains(&word), "no reason {word}");
        }
    }
}
