use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use super::{Desired, DesiredState, Document, Instruction, Kind, Reason, Rejected, Weights};
use crate::model::{BackendName, ServerName, Weight};

/// One key of Consul's answer, borrowed from the answer's text where it can be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry<'a> {
    /// The full key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The value in base64; `null` when it has no bytes.
    #[serde(borrow)]
    pub value: Option<Cow<'a, str>>,
    /// Raft index of the key's last change.
    pub modify_index: u64,
}

impl Entry<'_> {
    /// The value's bytes.
    ///
    /// # Errors
    /// [`BadResponse::Base64`]: Consul always writes base64, so the whole answer is not Consul's.
    pub fn bytes(&self) -> Result<Vec<u8>, BadResponse> {
        match &self.value {
            None => Ok(Vec::new()),
            Some(text) => BASE64.decode(&**text).map_err(|_| BadResponse::Base64(self.key.to_string())),
        }
    }

    /// An upper bound of the value's bytes, without decoding it.
    fn size_bound(&self) -> usize {
        self.value.as_ref().map_or(0, |text| text.len() / 4 * 3)
    }
}

/// Why an answer as a whole cannot be Consul's, whatever single keys say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// A value that is not base64.
    #[error("the value of key {0:?} is not base64")]
    Base64(String),
    /// A key that was not asked for.
    #[error("key {0:?} lies outside the prefix that was asked for")]
    OutsidePrefix(String),
}

/// What Consul says about one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A valid document.
    Valid(Instruction),
    /// Something that is refused; what was accepted stays in force.
    Rejected(Arc<Rejected>),
}

/// Where a key stands below the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'k> {
    /// `<backend>`: a document.
    Document(&'k str),
    /// `<backend>/<server>`: a leaf.
    Leaf(&'k str, &'k str),
    /// A key that ends in a slash: Consul's UI makes these; they say nothing.
    Folder(&'k str),
    /// Deeper than a leaf.
    Nested(&'k str),
}

/// Tells where `tail`, a key without the prefix, stands.
pub fn place(tail: &str) -> Place<'_> {
    match tail.split_once('/') {
        None if tail.is_empty() => Place::Folder(tail),
        None => Place::Document(tail),
        Some((backend, "")) => Place::Folder(backend),
        Some((backend, server)) => match server.split_once('/') {
            None => Place::Leaf(backend, server),
            Some((_, "")) => Place::Folder(backend),
            Some(_) => Place::Nested(backend),
        },
    }
}

/// Turns answers into [`DesiredState`]s and remembers what it decoded: a value whose `ModifyIndex` and raw
/// text did not change is not decoded again.
#[derive(Debug)]
pub struct Decoder {
    prefix: String,
    known: HashMap<String, Known>,
}

/// What one backend's keys were, and what came of them.
#[derive(Debug)]
struct Known {
    raw: Vec<(String, u64, Option<String>)>,
    source: Source,
    unknown_fields: Option<Arc<[String]>>,
}

impl Known {
    fn same(&self, entries: &[&Entry<'_>]) -> bool {
        self.raw.len() == entries.len()
            && self.raw.iter().zip(entries).all(|((key, index, value), entry)| {
                *index == entry.modify_index && value.as_deref() == entry.value.as_deref() && *key == entry.key
            })
    }
}

impl Decoder {
    /// A decoder for keys below `prefix`, such as `weightd/weights/`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), known: HashMap::new() }
    }

    /// Forgets what was decoded: to be called when the index was set back, since an index that means
    /// something else now proves nothing.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Decodes one answer.
    ///
    /// # Errors
    /// [`BadResponse`] if the answer as a whole cannot be trusted. Single bad keys are no error: they are
    /// [`Source::Rejected`] or [`DesiredState::stray`].
    pub fn decode(&mut self, index: u64, entries: &[Entry<'_>]) -> Result<DesiredState, BadResponse> {
        let mut groups: BTreeMap<&str, Vec<&Entry<'_>>> = BTreeMap::new();
        for entry in entries {
            let tail = entry
                .key
                .strip_prefix(self.prefix.as_str())
                .ok_or_else(|| BadResponse::OutsidePrefix(entry.key.to_string()))?;
            let backend = match place(tail) {
                Place::Folder(_) if entry.value.is_none() => continue,
                Place::Document(backend)
                | Place::Leaf(backend, _)
                | Place::Folder(backend)
                | Place::Nested(backend) => backend,
            };
            groups.entry(backend).or_default().push(entry);
        }

        let mut state = DesiredState { index, ..DesiredState::default() };
        for (backend, entries) in &groups {
            if !self.known.get(*backend).is_some_and(|known| known.same(entries)) {
                let known = decode_backend(&self.prefix, entries)?;
                self.known.insert((*backend).to_owned(), known);
            }
            let known = &self.known[*backend];
            match BackendName::new(backend) {
                Ok(name) => {
                    if let Some(fields) = &known.unknown_fields {
                        state.unknown_fields.insert(name.clone(), Arc::clone(fields));
                    }
                    state.backends.insert(name, known.source.clone());
                }
                Err(invalid) => {
                    state.stray_total += entries.len();
                    let room = DesiredState::MAX_STRAY - state.stray.len();
                    state.stray.extend(entries.iter().take(room).map(|entry| {
                        let reason = Reason::BackendName(invalid.clone());
                        Arc::new(Rejected { key: entry.key.to_string(), index: entry.modify_index, reason })
                    }));
                }
            }
        }
        self.known.retain(|backend, _| groups.contains_key(backend.as_str()));
        Ok(state)
    }
}

/// Decodes the keys of one backend. The backend is the unit: one bad key refuses them all.
fn decode_backend(prefix: &str, entries: &[&Entry<'_>]) -> Result<Known, BadResponse> {
    let raw =
        entries.iter().map(|e| (e.key.to_string(), e.modify_index, e.value.as_deref().map(str::to_owned))).collect();
    let mut unknown_fields = None;
    let source = match read(prefix, entries, &mut unknown_fields)? {
        Ok(instruction) => Source::Valid(instruction),
        Err((entry, reason)) => {
            Source::Rejected(Arc::new(Rejected { key: entry.key.to_string(), index: entry.modify_index, reason }))
        }
    };
    Ok(Known { raw, source, unknown_fields })
}

type Outcome<'e, 'a> = Result<Instruction, (&'e Entry<'a>, Reason)>;

fn read<'e, 'a>(
    prefix: &str,
    entries: &[&'e Entry<'a>],
    unknown_fields: &mut Option<Arc<[String]>>,
) -> Result<Outcome<'e, 'a>, BadResponse> {
    let mut document = None;
    let mut leaves: Vec<(&Entry<'_>, &str)> = Vec::new();
    for &entry in entries {
        match place(&entry.key[prefix.len()..]) {
            Place::Document(_) => document = Some(entry),
            Place::Leaf(_, server) => leaves.push((entry, server)),
            Place::Folder(_) => return Ok(Err((entry, Reason::FolderValue))),
            Place::Nested(_) => return Ok(Err((entry, Reason::Nested))),
        }
    }
    match document {
        Some(entry) if !leaves.is_empty() => Ok(Err((entry, Reason::DocumentAndLeaves))),
        Some(entry) => read_document(entry, unknown_fields),
        None => read_leaves(&leaves),
    }
}

fn read_document<'e, 'a>(
    entry: &'e Entry<'a>,
    unknown_fields: &mut Option<Arc<[String]>>,
) -> Result<Outcome<'e, 'a>, BadResponse> {
    let bytes = entry.bytes()?;
    let index = entry.modify_index;
    Ok(match Document::parse(&bytes) {
        Err(reason) => Err((entry, reason)),
        Ok(document) => {
            *unknown_fields =
                (!document.unknown.is_empty()).then(|| document.unknown.into_keys().collect::<Vec<_>>().into());
            Ok(match document.kind {
                Kind::Release => Instruction::Release { index },
                Kind::Weights(weights) => Instruction::Weights(Arc::new(Desired {
                    weights,
                    force: document.force,
                    index,
                    by: document.by,
                    reason: document.reason,
                    at: document.at,
                })),
            })
        }
    })
}

fn read_leaves<'e, 'a>(leaves: &[(&'e Entry<'a>, &str)]) -> Result<Outcome<'e, 'a>, BadResponse> {
    let mut weights = Weights::new();
    let mut index = 0;
    for &(entry, server) in leaves {
        let server = match ServerName::new(server) {
            Ok(server) => server,
            Err(invalid) => return Ok(Err((entry, Reason::ServerName(invalid)))),
        };
        if leaves.len() > Reason::MAX_SERVERS {
            return Ok(Err((entry, Reason::TooManyServers(leaves.len()))));
        }
        if entry.size_bound() > Reason::MAX_VALUE {
            return Ok(Err((entry, Reason::TooLarge(entry.size_bound()))));
        }
        let bytes = entry.bytes()?;
        let weight = match std::str::from_utf8(&bytes) {
            Err(_) => Err(Reason::NotUtf8),
            Ok("") => Err(Reason::Empty),
            Ok(text) => Weight::parse(text).map_err(|_| Reason::Leaf(text.to_owned())),
        };
        match weight {
            Err(reason) => return Ok(Err((entry, reason))),
            Ok(weight) => weights.insert(server, weight),
        };
        index = index.max(entry.modify_index);
    }
    Ok(Ok(Instruction::Weights(Arc::new(Desired { weights, force: false, index, by: None, reason: None, at: None }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "weightd/weights/";

    fn entry(key: &str, value: &str, modify_index: u64) -> Entry<'static> {
        let value = (!value.is_empty()).then(|| Cow::Owned(BASE64.encode(value)));
        Entry { key: Cow::Owned(format!("{PREFIX}{key}")), value, modify_index }
    }

    fn decode(entries: &[Entry<'_>]) -> DesiredState {
        Decoder::new(PREFIX).decode(1, entries).unwrap()
    }

    fn shown(state: &DesiredState, backend: &str) -> String {
        match &state.backends[backend] {
            Source::Valid(Instruction::Weights(desired)) => {
                desired.weights.iter().map(|(s, w)| format!("{s}={w} ")).collect::<Vec<_>>().concat()
                    + &format!("@{}", desired.index)
            }
            Source::Valid(Instruction::Release { index }) => format!("release @{index}"),
            Source::Rejected(rejected) => format!("{}: {}", rejected.key, rejected.reason),
        }
    }

    #[test]
    fn documents_and_leaves_say_the_same() {
        let state = decode(&[
            entry("app1", r#"{"weights":{"blue":90,"green":10}}"#, 5),
            entry("app2/blue", "90", 7),
            entry("app2/green", "10", 6),
            entry("app3", r#"{"release":true}"#, 8),
        ]);
        assert_eq!(shown(&state, "app1"), "blue=90 green=10 @5");
        assert_eq!(shown(&state, "app2"), "blue=90 green=10 @7");
        assert_eq!(shown(&state, "app3"), "release @8");
    }

    #[test]
    fn one_bad_backend_is_refused_alone() {
        let bad = [
            ("null", ""),
            ("empty", "{}"),
            ("utf8", "\u{0}"),
            ("text", "not json"),
            ("big", &"x".repeat(Reason::MAX_VALUE + 3)),
            ("deep/a/b", "1"),
            ("leaf/blue", "50%"),
            ("huge/blue", &"1".repeat(512 * 1024)),
            ("folder/", "x"),
            ("name/a;b", "1"),
        ];
        for (key, value) in bad {
            let state = decode(&[entry("good", r#"{"weights":{"a":1}}"#, 1), entry(key, value, 2)]);
            assert_eq!(shown(&state, "good"), "a=1 @1");
            let backend = key.split('/').next().unwrap();
            assert!(matches!(state.backends[backend], Source::Rejected(_)), "{key}");
        }
    }

    #[test]
    fn one_bad_leaf_refuses_the_backends_whole_new_state() {
        let state = decode(&[entry("app/blue", "90", 5), entry("app/green", "+5", 6)]);
        assert_eq!(shown(&state, "app"), "weightd/weights/app/green: `+5` is not a weight");
    }

    #[test]
    fn a_document_and_leaves_at_once_are_refused() {
        let state = decode(&[entry("app", r#"{"weights":{"a":1}}"#, 5), entry("app/blue", "1", 6)]);
        assert_eq!(shown(&state, "app"), "weightd/weights/app: the backend has a document and leaves at once");
    }

    #[test]
    fn folder_keys_say_nothing() {
        let state = decode(&[entry("", "", 1), entry("app/", "", 2), entry("app/x/", "", 3)]);
        assert!(state.backends.is_empty() && state.stray.is_empty());
        let state = decode(&[entry("app/", "", 2), entry("app/blue", "3", 3)]);
        assert_eq!(shown(&state, "app"), "blue=3 @3");
    }

    #[test]
    fn keys_of_impossible_backends_are_stray_and_bounded() {
        let entries: Vec<_> = (0..20_000).map(|n| entry(&format!("a b{n}"), "1", n)).collect();
        let state = decode(&entries);
        assert!(state.backends.is_empty());
        assert_eq!((state.stray.len(), state.stray_total), (DesiredState::MAX_STRAY, 20_000));
    }

    #[test]
    fn what_did_not_change_is_not_decoded_again_and_stays_the_same_object() {
        let mut decoder = Decoder::new(PREFIX);
        let first = decoder.decode(1, &[entry("a", r#"{"weights":{"x":1}}"#, 1), entry("b/x", "2", 1)]).unwrap();
        let second = decoder.decode(2, &[entry("a", r#"{"weights":{"x":1}}"#, 1), entry("b/x", "3", 2)]).unwrap();
        let object = |state: &DesiredState, name| match &state.backends[name] {
            Source::Valid(Instruction::Weights(desired)) => Arc::clone(desired),
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(&object(&first, "a"), &object(&second, "a")));
        assert_eq!(shown(&second, "b"), "x=3 @2");
        decoder.forget();
        let third = decoder.decode(3, &[entry("a", r#"{"weights":{"x":1}}"#, 1)]).unwrap();
        assert!(!Arc::ptr_eq(&object(&first, "a"), &object(&third, "a")));
    }

    #[test]
    fn an_answer_that_cannot_be_consuls_is_refused_whole() {
        let mut decoder = Decoder::new(PREFIX);
        let bad = Entry { key: Cow::Borrowed("weightd/weights/a"), value: Some(Cow::Borrowed("%%")), modify_index: 1 };
        assert!(matches!(decoder.decode(1, &[bad]), Err(BadResponse::Base64(_))));
        let elsewhere = Entry { key: Cow::Borrowed("other/a"), value: None, modify_index: 1 };
        assert!(matches!(decoder.decode(1, &[elsewhere]), Err(BadResponse::OutsidePrefix(_))));
    }
}
