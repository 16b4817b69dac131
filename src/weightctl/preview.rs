use std::fmt::Write as _;

use weightd_core::{
    desired::{Pattern, Split, Weights},
    model::{BackendName, Escaped},
    share::Percent,
};

use super::table::{Align, Cell, Table, Tone};
use crate::documents::{
    edit::Edit,
    view::{State, View},
};

/// The text of a change for the question: weights and shares before and after, and every other effect.
///
/// `columns` is the width of the terminal; none in a pipe.
pub(super) fn preview(backend: &BackendName, edit: &Edit, columns: Option<usize>) -> String {
    let mut text = format!(
        "{}  {}\n",
        Tone::Strong.paint(backend.as_str()),
        Tone::Faint.paint(&state_before(edit.before.as_ref()))
    );
    if let Some(split) = &edit.after.split {
        text.push_str(&split_rows(edit.before.as_ref(), split, columns));
    }
    if let Some(weights) = &edit.after.weights {
        text.push_str(&rows(edit.before.as_ref(), &edit.after, weights, columns));
    }
    let mut line = |content: &str| {
        let _ = writeln!(text, "  {content}");
    };
    if edit.after.state == State::Released {
        line("released: weightd stops managing the backend; HAProxy keeps its weights");
    }
    let before = edit.before.as_ref();
    if let Some(rejected) = before.and_then(|view| view.rejected.as_ref()) {
        line(&format!("replaces a rejected document: {}", Escaped(&rejected.reason)));
    }
    if before.is_some_and(|view| view.state == State::Split) && edit.after.state == State::Weights {
        line("weights replace the split: nodes do not adapt them to their servers any more");
    }
    if edit.after.state == State::Split && before.is_none_or(|view| view.state != State::Split) {
        line("a split: each node computes the weights for the servers that it has");
    }
    if before.is_some_and(|view| view.state == State::Released) {
        line("released before: weightd manages the backend again");
    }
    if before.is_some_and(|view| view.layout != edit.after.layout) {
        line("one document replaces the leaves");
    }
    match (before.is_some_and(|view| view.force), edit.after.force) {
        (false, true) => line("force: this change passes the guards, even if no server answers"),
        (true, false) => line("no force: the guards apply again"),
        (true, true) | (false, false) => {}
    }
    if let Some(reason) = &edit.after.reason {
        line(&format!("reason: {}", Escaped(reason)));
    }
    text
}

/// The state before the change, on one line.
fn state_before(before: Option<&View>) -> String {
    let Some(view) = before else { return "new".to_owned() };
    let index = view.index.unwrap_or_default();
    let origin = view.origin();
    let separator = if origin.is_empty() { "" } else { ", " };
    match view.state {
        State::Weights | State::Split => format!("index {index}{separator}{origin}"),
        State::Released => format!("released, index {index}{separator}{origin}"),
        State::Rejected => format!("rejected, index {index}"),
    }
}

/// One row per pattern: its share, before and after. Of weights, the share before is that of the matching servers.
fn split_rows(before: Option<&View>, after: &Split, columns: Option<usize>) -> String {
    let mut table = Table::new([("PATTERN", Align::Left), ("SHARE", Align::Left)]);
    let mut patterns: Vec<&Pattern> = after.shares().keys().collect();
    patterns.extend(before.and_then(|view| view.split.as_ref()).into_iter().flat_map(|split| split.shares().keys()));
    patterns.sort_unstable();
    patterns.dedup();
    for pattern in patterns {
        let shown = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| Percent(share).to_string());
        let (old, new) = (
            shown(before.and_then(|view| share_before(view, pattern))),
            shown(after.shares().get(pattern).map(|share| share.percent())),
        );
        let share = if old == new { new } else { format!("{old} → {new}") };
        table.row([pattern.as_str().into(), share.into()]);
    }
    table.render_within("  ", columns)
}

/// The share of a pattern, in percent; none if it has none.
fn share_before(view: &View, pattern: &Pattern) -> Option<f64> {
    if let Some(split) = &view.split {
        return split.shares().get(pattern).map(|share| share.percent());
    }
    let weights = view.weights.as_ref()?;
    let sum: u32 = weights.values().map(|weight| u32::from(weight.get())).sum();
    let own = weights.iter().filter(|(server, _)| pattern.matches(server.as_str()));
    let own: u32 = own.map(|(_, weight)| u32::from(weight.get())).sum();
    (sum > 0).then(|| f64::from(own) * 100.0 / f64::from(sum))
}

/// One row per server: weight and share, before and after.
fn rows(before: Option<&View>, edited: &View, after: &Weights, columns: Option<usize>) -> String {
    let mut table = Table::new([("SERVER", Align::Left), ("WEIGHT", Align::Left), ("SHARE", Align::Left)]);
    let width_of = |weights: &Weights| weights.values().map(|w| w.to_string().len()).max().unwrap_or_default();
    let weights_before = before.and_then(|view| view.weights.as_ref());
    let (width_before, width_after) = (weights_before.map_or(1, width_of), width_of(after));
    for (server, weight) in after {
        let old = before.and_then(|view| Some((view.weights.as_ref()?.get(server)?, view)));
        let tone = if old.is_some_and(|(old, _)| old == weight) { Tone::Plain } else { Tone::Strong };
        let share = edited.share(server);
        let (from, share_from) =
            old.map_or_else(|| ("-".to_owned(), "-".to_owned()), |(old, view)| (old.to_string(), view.share(server)));
        let weights = if from == weight.to_string() {
            format!("{from:>width_before$}")
        } else {
            format!("{from:>width_before$} → {weight:>width_after$}")
        };
        let shares = if share_from == share { share } else { format!("{share_from} → {share}") };
        table.row([Cell::new(server.as_str(), tone), Cell::new(weights, tone), Cell::new(shares, tone)]);
    }
    table.render_within("  ", columns)
}

#[cfg(test)]
mod tests {
    use weightd_core::model::{ServerName, Weight};

    use super::*;
    use crate::documents::{
        edit::{Intent, release, set},
        stored::tests::stored,
    };

    fn shown(keys: &[(&str, &str)], asked: &[(&str, u64)], force: bool) -> String {
        let backend = BackendName::new("app1").unwrap();
        let asked: Weights =
            asked.iter().map(|(s, w)| (ServerName::new(s).unwrap(), Weight::new(*w).unwrap())).collect();
        let intent = Intent {
            by: "bob".to_owned(),
            reason: Some("50 % canary".to_owned()),
            at: "2026-11-21T10:00:00Z".to_owned(),
            force,
            create: true,
            ..Intent::default()
        };
        let stored = (!keys.is_empty()).then(|| stored(keys));
        let edit = if asked.is_empty() {
            release(&backend, stored.as_ref(), &intent)
        } else {
            set(&backend, stored.as_ref(), &asked, &intent)
        };
        anstream::adapter::strip_str(&preview(&backend, &edit.unwrap(), None)).to_string()
    }

    #[test]
    fn a_change_shows_weights_and_shares_before_and_after() {
        let document = r#"{"weights":{"blue":90,"green":10},"by":"alice","at":"2026-11-20T10:00:00Z","reason":"10 %"}"#;
        insta::assert_snapshot!(shown(&[("app1", document)], &[("green", 110)], false), @r"
        app1  index 1, by alice at 2026-11-20T10:00:00Z: 10 %
          SERVER  WEIGHT    SHARE
          blue    90        90% → 45%
          green   10 → 110  10% → 55%
          reason: 50 % canary
        ");
        let three = r#"{"weights":{"blue":100,"green":0,"red":1}}"#;
        insta::assert_snapshot!(shown(&[("app1", three)], &[("green", 50), ("new", 1)], false), @r"
        app1  index 1
          SERVER  WEIGHT     SHARE
          blue    100        99.0% → 65.8%
          green     0 →  50  0% → 32.9%
          new       - →   1  - → 0.7%
          red       1        1.0% → 0.7%
          reason: 50 % canary
        ");
    }

    #[test]
    fn every_other_effect_of_a_change_is_shown() {
        insta::assert_snapshot!(shown(&[], &[("blue", 1), ("green", 0)], false), @r"
        app1  new
          SERVER  WEIGHT  SHARE
          blue    - → 1   - → 100%
          green   - → 0   - → 0%
          reason: 50 % canary
        ");
        insta::assert_snapshot!(shown(&[("app1/blue", "9"), ("app1/green", "1")], &[("blue", 0), ("green", 0)], true), @r"
        app1  index 2
          SERVER  WEIGHT  SHARE
          blue    9 → 0   90% → -
          green   1 → 0   10% → -
          one document replaces the leaves
          force: this change passes the guards, even if no server answers
          reason: 50 % canary
        ");
        insta::assert_snapshot!(shown(&[("app1", r#"{"weights":{"blue":0},"force":true}"#)], &[("blue", 1)], false), @r"
        app1  index 1
          SERVER  WEIGHT  SHARE
          blue    0 → 1   - → 100%
          no force: the guards apply again
          reason: 50 % canary
        ");
        insta::assert_snapshot!(shown(&[("app1", "50%")], &[("blue", 1)], false), @r"
        app1  rejected, index 1
          SERVER  WEIGHT  SHARE
          blue    - → 1   - → 100%
          replaces a rejected document: the document is malformed: invalid type: integer `50`, expected a JSON object at line 1 column 2
          reason: 50 % canary
        ");
        insta::assert_snapshot!(shown(&[("app1", r#"{"release":true,"by":"alice"}"#)], &[("blue", 1)], false), @r"
        app1  released, index 1, by alice
          SERVER  WEIGHT  SHARE
          blue    - → 1   - → 100%
          released before: weightd manages the backend again
          reason: 50 % canary
        ");
    }

    #[test]
    fn a_release_shows_its_effect() {
        insta::assert_snapshot!(shown(&[("app1/blue", "9"), ("app1/green", "1")], &[], false), @r"
        app1  index 2
          released: weightd stops managing the backend; HAProxy keeps its weights
          one document replaces the leaves
          reason: 50 % canary
        ");
    }
}
