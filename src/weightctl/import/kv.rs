//! Parses the keys that a template reads, with the rules of weightd. Pure.

use weightd_core::{
    desired::{BadResponse, Entry, KeyKind, Kind, Rejected, key_kind},
    model::{BackendName, Weight},
};

use super::decide::{Candidate, Candidates, Skipped};
use crate::documents::stored::{Content, read};

/// The keys below `prefix` as candidates: numbers at `<backend>/<server>`, or documents at `<backend>`.
///
/// The rules are weightd's own: one invalid key makes its whole backend invalid. The result names each invalid key.
///
/// # Errors
/// An answer of Consul with a value that is not Base64.
pub(super) fn candidates(prefix: &str, entries: &[Entry<'_>]) -> Result<Candidates, BadResponse> {
    let everything = read(prefix, entries)?;
    let mut candidates = Candidates::default();
    for stored in everything.backends {
        let backend = stored.backend;
        let weights = match stored.content {
            Content::Leaves(leaves) => leaves.into_iter().map(|(server, leaf)| (server, leaf.weight)).collect(),
            Content::Document(document) => match document.kind {
                Kind::Weights(weights) => weights,
                Kind::Split(_) => {
                    let remedy = "print it with `weightctl export`, and write that file: `weightctl apply --help`";
                    candidates.skipped.push(Skipped::refused(
                        &backend,
                        "it has shares by pattern, not weights",
                        remedy,
                    ));
                    continue;
                }
                Kind::Release => {
                    candidates.skipped.push(Skipped::nothing(
                        &backend,
                        "its document releases it",
                        "no action is necessary",
                    ));
                    continue;
                }
            },
            Content::Rejected(rejected) => {
                candidates.skipped.extend(each_invalid(prefix, entries, &backend, &rejected)?);
                continue;
            }
        };
        candidates.found.push(Candidate { backend, weights, active: None, caveats: Vec::new(), exclusion: None });
    }
    candidates.skipped.extend(everything.stray.iter().map(|stray| Skipped::key(None, &stray.key, &stray.reason)));
    let more = everything.stray_total - everything.stray.len();
    if more > 0 {
        let (reason, remedy) = (format!("{more} more keys have no valid name of a backend"), "delete them".to_owned());
        candidates.skipped.push(Skipped { backend: None, key: None, reason, remedy, refused: true });
    }
    Ok(candidates)
}

/// Each invalid key of a backend. If each key is valid by itself, the error of all keys together.
fn each_invalid(
    prefix: &str,
    entries: &[Entry<'_>],
    backend: &BackendName,
    together: &Rejected,
) -> Result<Vec<Skipped>, BadResponse> {
    let mut invalid = Vec::new();
    for entry in entries {
        let (KeyKind::Document(name) | KeyKind::Leaf(name, _) | KeyKind::Folder(name) | KeyKind::Nested(name)) =
            key_kind(&entry.key[prefix.len()..]);
        if name != backend.as_str() {
            continue;
        }
        if let (KeyKind::Document(_), Some(skipped)) = (key_kind(&entry.key[prefix.len()..]), number(prefix, entry)?) {
            invalid.push(skipped);
            continue;
        }
        let alone = read(prefix, std::slice::from_ref(entry))?;
        invalid.extend(alone.backends.into_iter().filter_map(|stored| match stored.content {
            Content::Rejected(rejected) => Some(Skipped::key(Some(backend), &rejected.key, &rejected.reason)),
            Content::Document(_) | Content::Leaves(_) => None,
        }));
    }
    if invalid.is_empty() {
        invalid.push(Skipped::key(Some(backend), &together.key, &together.reason));
    }
    Ok(invalid)
}

/// The error for a plain number at the level of a backend: the prefix is one level too deep.
fn number(prefix: &str, entry: &Entry<'_>) -> Result<Option<Skipped>, BadResponse> {
    let bytes = entry.bytes()?;
    let Some(weight) = str::from_utf8(&bytes).ok().and_then(|text| Weight::parse(text.trim()).ok()) else {
        return Ok(None);
    };
    let remedy = match prefix.trim_end_matches('/').rsplit_once('/') {
        Some((above, backend)) if BackendName::new(backend).is_ok() => {
            format!("if `{backend}` is the backend: `weightctl import {backend} --from-kv {above}`")
        }
        _ => "use the prefix above the name of the backend, or delete the key".to_owned(),
    };
    Ok(Some(Skipped {
        backend: None,
        key: Some(entry.key.to_string()),
        reason: format!("the value is the number {weight}: the prefix must be one level higher, PREFIX/BACKEND/SERVER"),
        remedy,
        refused: true,
    }))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    use super::*;

    fn of(keys: &[(&str, &str)]) -> Candidates {
        let entries: Vec<_> = keys
            .iter()
            .map(|(key, value)| Entry {
                key: Cow::Owned(format!("traffic/{key}")),
                value: (!value.is_empty()).then(|| Cow::Owned(BASE64.encode(value))),
                modify_index: 7,
            })
            .collect();
        candidates("traffic/", &entries).unwrap()
    }

    fn shown(candidates: &Candidates) -> String {
        let found = candidates.found.iter().map(|found| format!("{} {:?}", found.backend, found.weights));
        found.chain(candidates.skipped.iter().map(Skipped::sentence)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn plain_numbers_and_documents_are_imported() {
        let candidates = of(&[
            ("app1/", ""),
            ("app1/blue", "90"),
            ("app1/green", "10\n"),
            ("app2", r#"{"weights":{"blue":1}}"#),
            ("app3", r#"{"release":true}"#),
        ]);
        insta::assert_snapshot!(shown(&candidates), @r#"
        app1 {"blue": Weight(90), "green": Weight(10)}
        app2 {"blue": Weight(1)}
        not imported: app3: its document releases it; no action is necessary
        "#);
        assert!(candidates.skipped.iter().all(|skipped| !skipped.refused));
    }

    #[test]
    fn each_invalid_key_is_named_and_its_backend_is_not_imported() {
        let candidates = of(&[
            ("app1/blue", "90%"),
            ("app1/green", "10"),
            ("app1/red", "half"),
            ("app2/blue/weight", "90"),
            ("app3", "90"),
            ("app4", r#"{"weights":{"blue":1}}"#),
            ("app4/blue", "1"),
            ("app5/blue", ""),
            ("app 6/blue", "1"),
            ("app7/b lue", "1"),
            ("fine/blue", "1"),
        ]);
        insta::assert_snapshot!(shown(&candidates), @r#"
        fine {"blue": Weight(1)}
        not imported: traffic/app1/blue: `90%` is not a weight; write a whole number from 0 to 256, such as 50, without quotes, sign or percent
        not imported: traffic/app1/red: `half` is not a weight; write a whole number from 0 to 256, such as 50, without quotes, sign or percent
        not imported: traffic/app2/blue/weight: the key is deeper than <backend>/<server>; delete the key; write only <backend> or <backend>/<server>
        not imported: traffic/app3: the value is the number 90: the prefix must be one level higher, PREFIX/BACKEND/SERVER; use the prefix above the name of the backend, or delete the key
        not imported: traffic/app4: the backend has both a document and leaves; delete the document <backend>, or delete the leaves <backend>/<server>
        not imported: traffic/app5/blue: the value is empty; write a document such as {"weights": {"blue": 90, "green": 10}}, or use `weightctl set`
        not imported: traffic/app7/b lue: the server's name is invalid: the name `b lue` contains ` `; valid characters are A-Z a-z 0-9 _ . : -; delete the key; use the name of the server in haproxy.cfg
        not imported: traffic/app 6/blue: the backend's name is invalid: the name `app 6` contains ` `; valid characters are A-Z a-z 0-9 _ . : -; delete the key; use the name of the backend in haproxy.cfg
        "#);
        assert!(candidates.skipped.iter().all(|skipped| skipped.refused));
    }
}
