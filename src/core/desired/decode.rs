use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
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

impl<'k> Place<'k> {
    /// The backend that it is about.
    fn backend(self) -> &'k str {
        match self {
            Self::Document(backend) | Self::Leaf(backend, _) | Self::Folder(backend) | Self::Nested(backend) => backend,
        }
    }
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
/// text did not change is not decoded again, and what did not change costs one comparison.
#[derive(Debug)]
pub struct Decoder {
    prefix: String,
    /// Each key of the last answer, with its index and its raw text.
    known: HashMap<String, (u64, Option<String>)>,
    /// What that answer said.
    state: Arc<DesiredState>,
}

impl Decoder {
    /// A decoder for keys below `prefix`, such as `weightd/weights/`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), known: HashMap::new(), state: Arc::default() }
    }

    /// Forgets what was decoded: to be called when the index was set back, since an index that means
    /// something else now proves nothing.
    pub fn forget(&mut self) {
        self.known.clear();
        self.state = Arc::default();
    }

    /// Decodes one answer; returns the same object as for the one before if no key differs.
    ///
    /// # Errors
    /// [`BadResponse`] if the answer as a whole cannot be trusted; nothing of it is remembered. Single bad keys are no
    /// error: they are [`Source::Rejected`] or [`DesiredState::stray`].
    pub fn decode(&mut self, entries: &[Entry<'_>]) -> Result<Arc<DesiredState>, BadResponse> {
        let (news, gone) = self.news(entries)?;
        if news.is_empty() && gone.is_empty() {
            return Ok(Arc::clone(&self.state));
        }
        let changed = news.iter().map(|entry| &*entry.key).chain(gone.iter().map(String::as_str));
        let mut groups: BTreeMap<&str, Vec<&Entry<'_>>> =
            changed.map(|key| (place(&key[self.prefix.len()..]).backend(), Vec::new())).collect();
        for entry in entries {
            if let Some(group) = self.about(entry).and_then(|backend| groups.get_mut(backend)) {
                group.push(entry);
            }
        }

        let mut state = DesiredState::clone(&self.state);
        let mut strays = false;
        for (backend, entries) in &groups {
            let Ok(name) = BackendName::new(backend) else {
                strays = true;
                continue;
            };
            state.unknown_fields.remove(&name);
            if entries.is_empty() {
                state.backends.remove(&name);
                continue;
            }
            let (source, unknown_fields) = decode_backend(&self.prefix, entries)?;
            if let Some(fields) = unknown_fields {
                state.unknown_fields.insert(name.clone(), fields);
            }
            state.backends.insert(name, source);
        }
        if strays {
            (state.stray, state.stray_total) = self.strays(entries);
        }

        for key in &gone {
            self.known.remove(key);
        }
        for entry in news {
            self.known.insert(entry.key.to_string(), (entry.modify_index, entry.value.as_deref().map(str::to_owned)));
        }
        self.state = Arc::new(state);
        Ok(Arc::clone(&self.state))
    }

    /// The backend that an entry says something about.
    fn about<'e>(&self, entry: &'e Entry<'_>) -> Option<&'e str> {
        match place(&entry.key[self.prefix.len()..]) {
            Place::Folder(_) if entry.value.is_none() => None,
            place => Some(place.backend()),
        }
    }

    /// The entries that differ from the last answer's, and the keys that it had and this one has not.
    fn news<'e, 'a>(&self, entries: &'e [Entry<'a>]) -> Result<(Vec<&'e Entry<'a>>, Vec<String>), BadResponse> {
        let mut news = Vec::new();
        let mut there = 0;
        for entry in entries {
            if !entry.key.starts_with(&self.prefix) {
                return Err(BadResponse::OutsidePrefix(entry.key.to_string()));
            }
            let known = self.known.get(&*entry.key);
            there += usize::from(known.is_some());
            if !known.is_some_and(|(index, value)| {
                *index == entry.modify_index && value.as_deref() == entry.value.as_deref()
            }) {
                news.push(entry);
            }
        }
        let mut gone = Vec::new();
        if there < self.known.len() {
            let keys: HashSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
            gone.extend(self.known.keys().filter(|key| !keys.contains(key.as_str())).cloned());
        }
        Ok((news, gone))
    }

    /// The keys of backends that no HAProxy could have, in the order of those: some, and how many there are.
    fn strays(&self, entries: &[Entry<'_>]) -> (Vec<Arc<Rejected>>, usize) {
        let stray = |entry| {
            let backend = self.about(entry)?;
            Some((backend, entry, BackendName::new(backend).err()?))
        };
        let mut all: Vec<_> = entries.iter().filter_map(stray).collect();
        all.sort_by_key(|(backend, ..)| *backend);
        let total = all.len();
        let some = all.into_iter().take(DesiredState::MAX_STRAY).map(|(_, entry, invalid)| {
            let reason = Reason::BackendName(invalid);
            Arc::new(Rejected { key: entry.key.to_string(), index: entry.modify_index, reason })
        });
        (some.collect(), total)
    }
}

/// Names of fields that this version does not know, if there are any.
type Unknown = Option<Arc<[String]>>;

/// Decodes the keys of one backend. The backend is the unit: one bad key refuses them all.
fn decode_backend(prefix: &str, entries: &[&Entry<'_>]) -> Result<(Source, Unknown), BadResponse> {
    let mut unknown_fields = None;
    let source = match read(prefix, entries, &mut unknown_fields)? {
        Ok(instruction) => Source::Valid(instruction),
        Err((entry, reason)) => {
            Source::Rejected(Arc::new(Rejected { key: entry.key.to_string(), index: entry.modify_index, reason }))
        }
    };
    Ok((source, unknown_fields))
}

type Outcome<'e, 'a> = Result<Instruction, (&'e Entry<'a>, Reason)>;

fn read<'e, 'a>(
    prefix: &str,
    entries: &[&'e Entry<'a>],
    unknown_fields: &mut Unknown,
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

fn read_document<'e, 'a>(entry: &'e Entry<'a>, unknown_fields: &mut Unknown) -> Result<Outcome<'e, 'a>, BadResponse> {
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

    fn decode(entries: &[Entry<'_>]) -> Arc<DesiredState> {
        Decoder::new(PREFIX).decode(entries).unwrap()
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
        let first = decoder.decode(&[entry("a", r#"{"weights":{"x":1}}"#, 1), entry("b/x", "2", 1)]).unwrap();
        let second = decoder.decode(&[entry("a", r#"{"weights":{"x":1}}"#, 1), entry("b/x", "3", 2)]).unwrap();
        let object = |state: &DesiredState, name| match &state.backends[name] {
            Source::Valid(Instruction::Weights(desired)) => Arc::clone(desired),
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(&object(&first, "a"), &object(&second, "a")));
        assert_eq!(shown(&second, "b"), "x=3 @2");
        decoder.forget();
        let third = decoder.decode(&[entry("a", r#"{"weights":{"x":1}}"#, 1)]).unwrap();
        assert!(!Arc::ptr_eq(&object(&first, "a"), &object(&third, "a")));
    }

    #[test]
    fn an_answer_that_cannot_be_consuls_is_refused_whole() {
        let mut decoder = Decoder::new(PREFIX);
        let bad = Entry { key: Cow::Borrowed("weightd/weights/a"), value: Some(Cow::Borrowed("%%")), modify_index: 1 };
        assert!(matches!(decoder.decode(&[bad]), Err(BadResponse::Base64(_))));
        let elsewhere = Entry { key: Cow::Borrowed("other/a"), value: None, modify_index: 1 };
        assert!(matches!(decoder.decode(&[elsewhere]), Err(BadResponse::OutsidePrefix(_))));
    }
}
