use super::{Entry, History, To, value_of};
use crate::rollback::{Asked, Decision, decide, is_rest};

/// The most characters of a text in an entry.
const MAX_TEXT: usize = 200;

/// Brings the entries within the bounds of a history. What the next rollback goes back to stays as the anchor.
pub(super) fn trim(entries: &mut Vec<Entry>) {
    if let Some(newest) = entries.first_mut() {
        shorten(newest);
    }
    if fits(entries) {
        return;
    }
    let target = target(entries);
    let anchor = entries.pop_if(|last| last.anchor);
    let full = entries.clone();
    let mut kept = full.len().min(History::MAX_ENTRIES);
    loop {
        let last = anchor_of(&full, kept, target.as_ref(), anchor.as_ref());
        entries.clear();
        entries.extend(full.iter().take(kept).cloned());
        entries.extend(last);
        if fits(entries) {
            return;
        }
        match kept {
            0 | 1 => break,
            _ => kept -= 1,
        }
    }
    // One entry and its anchor are too large together: first the anchor goes, then what the entry went to.
    entries.truncate(1);
    if let (false, Some(newest)) = (fits(entries), entries.first_mut()) {
        newest.to = To::Omitted;
        newest.raised.clear();
        newest.unknown.clear();
    }
}

fn fits(entries: &[Entry]) -> bool {
    entries.len() <= History::MAX_ENTRIES && value_of(entries).len() <= History::MAX_BYTES
}

/// The entry that follows after the newest `kept` ones are kept.
fn anchor_of(full: &[Entry], kept: usize, target: Option<&Entry>, old: Option<&Entry>) -> Option<Entry> {
    let dropped = full.get(kept..).unwrap_or_default();
    let found = match target {
        Some(target) if old == Some(target) => Some(target),
        Some(target) if dropped.contains(target) => Some(target),
        // A resting point among the dropped ends every walk before the old anchor, so that the old one is no target any more.
        _ if (kept..full.len()).any(|at| is_rest(full, at)) => None,
        _ => old,
    };
    found.map(|entry| Entry { anchor: true, ..entry.clone() })
}

/// What the next rollback goes back to, or the next but one where the newest entry is a rollback itself.
fn target(entries: &[Entry]) -> Option<Entry> {
    [false, true].into_iter().find_map(|again| match decide(entries, &Asked { again, ..Asked::default() }) {
        Decision::Target(target) => entries.get(target.position).cloned(),
        Decision::Ask(_) | Decision::Refuse(_) => None,
    })
}

/// Cuts texts that a person wrote: one of them must not push out the rest.
fn shorten(entry: &mut Entry) {
    let cut = |text: &mut String| {
        if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(at);
            text.push('…');
        }
    };
    entry.by.iter_mut().for_each(cut);
    entry.why.iter_mut().for_each(cut);
    if let Some(token) = &mut entry.token {
        cut(&mut token.accessor);
        cut(&mut token.description);
    }
}
