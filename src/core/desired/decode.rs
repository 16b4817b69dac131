use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use super::{Desired, DesiredState, Document, Instruction, Invalid, Kind, Published, Rejected, Weights};
use crate::model::{BackendName, ServerName, Weight};

/// One key of Consul's answer. Borrows from the body if possible.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry<'a> {
    /// The full key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The value in base64; `null` for an empty value.
    #[serde(borrow)]
    pub value: Option<Cow<'a, str>>,
    /// The Raft index of the key's last change.
    pub modify_index: u64,
}

impl Entry<'_> {
    /// Decodes the value.
    ///
    /// # Errors
    /// [`BadResponse::Base64`]. Consul always writes base64, so the whole answer cannot be from Consul.
    pub fn bytes(&self) -> Result<Vec<u8>, BadResponse> {
        match &self.value {
            None => Ok(Vec::new()),
            Some(text) => BASE64.decode(&**text).map_err(|_| BadResponse::Base64(self.key.to_string())),
        }
    }

    /// Returns an upper bound of the value's size in bytes, without decoding it.
    fn size_bound(&self) -> usize {
        self.value.as_ref().map_or(0, |text| text.len() / 4 * 3)
    }
}

/// The whole answer cannot be from Consul.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// A value is not base64.
    #[error("the value of key {0:?} is not base64")]
    Base64(String),
    /// A key is outside the requested prefix.
    #[error("key {0:?} is outside the requested prefix")]
    OutsidePrefix(String),
}

/// The kind of a key below the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind<'k> {
    /// `<backend>`: a document.
    Document(&'k str),
    /// `<backend>/<server>`: a leaf.
    Leaf(&'k str, &'k str),
    /// A key that ends in a slash. Consul's UI creates such keys. They are not an instruction.
    Folder(&'k str),
    /// A key below a leaf.
    Nested(&'k str),
}

impl<'k> KeyKind<'k> {
    /// Returns the backend name in the key.
    fn backend(self) -> &'k str {
        match self {
            Self::Document(backend) | Self::Leaf(backend, _) | Self::Folder(backend) | Self::Nested(backend) => backend,
        }
    }
}

/// Classifies a key. `tail` is the part after the prefix.
pub fn key_kind(tail: &str) -> KeyKind<'_> {
    match tail.split_once('/') {
        None if tail.is_empty() => KeyKind::Folder(tail),
        None => KeyKind::Document(tail),
        Some((backend, "")) => KeyKind::Folder(backend),
        Some((backend, server)) => match server.split_once('/') {
            None => KeyKind::Leaf(backend, server),
            Some((_, "")) => KeyKind::Folder(backend),
            Some(_) => KeyKind::Nested(backend),
        },
    }
}

/// Decodes answers to [`DesiredState`]s, with a cache. If `ModifyIndex` and raw text of a value are unchanged, the
/// value is compared and not decoded again.
#[derive(Debug)]
pub struct Decoder {
    prefix: String,
    /// The keys of the last answer, with `ModifyIndex` and raw text.
    known: HashMap<String, (u64, Option<String>)>,
    /// The backends of the last answer that are too large.
    oversized: BTreeSet<String>,
    /// The state of the last answer.
    state: Arc<DesiredState>,
}

impl Decoder {
    /// Creates a decoder for keys below `prefix`, such as `weightd/weights/`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), known: HashMap::new(), oversized: BTreeSet::new(), state: Arc::default() }
    }

    /// Clears the cache. Call it after a reset of the index, because an equal `ModifyIndex` then does not mean an equal
    /// value.
    pub fn forget(&mut self) {
        self.known.clear();
        self.oversized.clear();
        self.state = Arc::default();
    }

    /// Decodes one answer. Returns the previous object if no key changed.
    ///
    /// # Errors
    /// [`BadResponse`] if the whole answer cannot be from Consul. The cache does not change. An invalid key is not an
    /// error: it becomes [`Published::Rejected`] or [`DesiredState::stray`].
    pub fn decode(&mut self, entries: &[Entry<'_>]) -> Result<Arc<DesiredState>, BadResponse> {
        self.decode_with(entries, &BTreeSet::new())
    }

    /// Decodes an answer without the keys of the backends in `oversized`, which are too large. Each of those backends
    /// is rejected.
    ///
    /// # Errors
    /// [`BadResponse`], as [`Decoder::decode`].
    pub fn decode_with(
        &mut self,
        entries: &[Entry<'_>],
        oversized: &BTreeSet<String>,
    ) -> Result<Arc<DesiredState>, BadResponse> {
        let (changed_entries, gone) = self.changes(entries)?;
        if changed_entries.is_empty() && gone.is_empty() && *oversized == self.oversized {
            return Ok(Arc::clone(&self.state));
        }
        let changed = changed_entries.iter().map(|entry| &*entry.key).chain(gone.iter().map(String::as_str));
        let changed = changed.map(|key| key_kind(&key[self.prefix.len()..]).backend());
        let changed = changed.chain(oversized.symmetric_difference(&self.oversized).map(String::as_str));
        let mut groups: BTreeMap<&str, Vec<&Entry<'_>>> = changed.map(|backend| (backend, Vec::new())).collect();
        for entry in entries {
            if let Some(group) = self.backend_of(entry).and_then(|backend| groups.get_mut(backend)) {
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
            if oversized.contains(*backend) {
                let key = format!("{}{backend}", self.prefix);
                let rejected = Rejected { key, index: 0, reason: Invalid::Oversized };
                state.backends.insert(name, Published::Rejected(Arc::new(rejected)));
                continue;
            }
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
        for entry in changed_entries {
            self.known.insert(entry.key.to_string(), (entry.modify_index, entry.value.as_deref().map(str::to_owned)));
        }
        self.oversized.clone_from(oversized);
        self.state = Arc::new(state);
        Ok(Arc::clone(&self.state))
    }

    /// Returns the backend that an entry belongs to; none for a folder key.
    fn backend_of<'e>(&self, entry: &'e Entry<'_>) -> Option<&'e str> {
        match key_kind(&entry.key[self.prefix.len()..]) {
            KeyKind::Folder(_) if entry.value.is_none() => None,
            kind => Some(kind.backend()),
        }
    }

    /// Returns the entries that changed since the last answer, and the keys that vanished.
    fn changes<'e, 'a>(&self, entries: &'e [Entry<'a>]) -> Result<(Vec<&'e Entry<'a>>, Vec<String>), BadResponse> {
        let mut changed_entries = Vec::new();
        let mut found = 0;
        for entry in entries {
            if !entry.key.starts_with(&self.prefix) {
                return Err(BadResponse::OutsidePrefix(entry.key.to_string()));
            }
            let known = self.known.get(&*entry.key);
            found += usize::from(known.is_some());
            if !known.is_some_and(|(index, value)| {
                *index == entry.modify_index && value.as_deref() == entry.value.as_deref()
            }) {
                changed_entries.push(entry);
            }
        }
        let mut gone = Vec::new();
        if found < self.known.len() {
            let keys: HashSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
            gone.extend(self.known.keys().filter(|key| !keys.contains(key.as_str())).cloned());
        }
        Ok((changed_entries, gone))
    }

    /// Returns the first keys with an invalid backend name, ordered by that name, and their total number.
    fn strays(&self, entries: &[Entry<'_>]) -> (Vec<Arc<Rejected>>, usize) {
        let stray = |entry| {
            let backend = self.backend_of(entry)?;
            Some((backend, entry, BackendName::new(backend).err()?))
        };
        let mut all: Vec<_> = entries.iter().filter_map(stray).collect();
        all.sort_by_key(|(backend, ..)| *backend);
        let total = all.len();
        let some = all.into_iter().take(DesiredState::MAX_STRAY).map(|(_, entry, invalid)| {
            let reason = Invalid::BackendName(invalid);
            Arc::new(Rejected { key: entry.key.to_string(), index: entry.modify_index, reason })
        });
        (some.collect(), total)
    }
}

/// The names of unknown fields; none if there are none.
type Unknown = Option<Arc<[String]>>;

/// Decodes the keys of one backend. One invalid key rejects the whole backend.
fn decode_backend(prefix: &str, entries: &[&Entry<'_>]) -> Result<(Published, Unknown), BadResponse> {
    let mut unknown_fields = None;
    let source = match read(prefix, entries, &mut unknown_fields)? {
        Ok(instruction) => Published::Valid(instruction),
        Err((entry, reason)) => {
            Published::Rejected(Arc::new(Rejected { key: entry.key.to_string(), index: entry.modify_index, reason }))
        }
    };
    Ok((source, unknown_fields))
}

type Outcome<'e, 'a> = Result<Instruction, (&'e Entry<'a>, Invalid)>;

fn read<'e, 'a>(
    prefix: &str,
    entries: &[&'e Entry<'a>],
    unknown_fields: &mut Unknown,
) -> Result<Outcome<'e, 'a>, BadResponse> {
    let mut document = None;
    let mut leaves: Vec<(&Entry<'_>, &str)> = Vec::new();
    for &entry in entries {
        match key_kind(&entry.key[prefix.len()..]) {
            KeyKind::Document(_) => document = Some(entry),
            KeyKind::Leaf(_, server) => leaves.push((entry, server)),
            KeyKind::Folder(_) => return Ok(Err((entry, Invalid::FolderValue))),
            KeyKind::Nested(_) => return Ok(Err((entry, Invalid::Nested))),
        }
    }
    match document {
        Some(entry) if !leaves.is_empty() => Ok(Err((entry, Invalid::DocumentAndLeaves))),
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
            let (force, by, reason, at, back) =
                (document.force, document.by, document.reason, document.at, document.back);
            let weights_of = |weights, split| {
                Instruction::Weights(Arc::new(Desired { weights, split, force, index, by, reason, at, back }))
            };
            Ok(match document.kind {
                Kind::Release => Instruction::Release { index },
                Kind::Weights(weights) => weights_of(weights, None),
                Kind::Split(split) => weights_of(Weights::new(), Some(split)),
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
            Err(invalid) => return Ok(Err((entry, Invalid::ServerName(invalid)))),
        };
        if leaves.len() > Invalid::MAX_SERVERS {
            return Ok(Err((entry, Invalid::TooManyServers(leaves.len()))));
        }
        if entry.size_bound() > Invalid::MAX_VALUE {
            return Ok(Err((entry, Invalid::TooLarge(entry.size_bound()))));
        }
        let bytes = entry.bytes()?;
        let weight = match std::str::from_utf8(&bytes) {
            Err(_) => Err(Invalid::NotUtf8),
            Ok("") => Err(Invalid::Empty),
            Ok(text) => Weight::parse(text).map_err(|_| Invalid::Leaf(text.to_owned())),
        };
        match weight {
            Err(reason) => return Ok(Err((entry, reason))),
            Ok(weight) => weights.insert(server, weight),
        };
        index = index.max(entry.modify_index);
    }
    Ok(Ok(Instruction::Leaves(Arc::new(Desired { weights, index, ..Desired::default() }))))
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
            Published::Valid(Instruction::Weights(desired) | Instruction::Leaves(desired)) => {
                desired.weights.iter().map(|(s, w)| format!("{s}={w} ")).collect::<Vec<_>>().concat()
                    + &format!("@{}", desired.index)
            }
            Published::Valid(Instruction::Release { index }) => format!("release @{index}"),
            Published::Rejected(rejected) => format!("{}: {}", rejected.key, rejected.reason),
        }
    }

    #[test]
    fn documents_and_leaves_give_the_same_weights() {
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
    fn an_invalid_backend_does_not_affect_others() {
        let bad = [
            ("null", ""),
            ("empty", "{}"),
            ("utf8", "\u{0}"),
            ("text", "not json"),
            ("big", &"x".repeat(Invalid::MAX_VALUE + 3)),
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
            assert!(matches!(state.backends[backend], Published::Rejected(_)), "{key}");
        }
    }

    #[test]
    fn one_invalid_leaf_rejects_the_whole_backend() {
        let state = decode(&[entry("app/blue", "90", 5), entry("app/green", "+5", 6)]);
        assert_eq!(shown(&state, "app"), "weightd/weights/app/green: `+5` is not a weight");
    }

    #[test]
    fn a_document_with_leaves_is_rejected() {
        let state = decode(&[entry("app", r#"{"weights":{"a":1}}"#, 5), entry("app/blue", "1", 6)]);
        assert_eq!(shown(&state, "app"), "weightd/weights/app: the backend has both a document and leaves");
    }

    #[test]
    fn folder_keys_are_ignored() {
        let state = decode(&[entry("", "", 1), entry("app/", "", 2), entry("app/x/", "", 3)]);
        assert!(state.backends.is_empty() && state.stray.is_empty());
        let state = decode(&[entry("app/", "", 2), entry("app/blue", "3", 3)]);
        assert_eq!(shown(&state, "app"), "blue=3 @3");
    }

    #[test]
    fn keys_with_an_invalid_backend_name_are_stray_and_bounded() {
        let entries: Vec<_> = (0..20_000).map(|n| entry(&format!("a b{n}"), "1", n)).collect();
        let state = decode(&entries);
        assert!(state.backends.is_empty());
        assert_eq!((state.stray.len(), state.stray_total), (DesiredState::MAX_STRAY, 20_000));
    }

    #[test]
    fn an_unchanged_value_is_not_decoded_again() {
        let mut decoder = Decoder::new(PREFIX);
        let first = decoder.decode(&[entry("a", r#"{"weights":{"x":1}}"#, 1), entry("b/x", "2", 1)]).unwrap();
        let second = decoder.decode(&[entry("a", r#"{"weights":{"x":1}}"#, 1), entry("b/x", "3", 2)]).unwrap();
        let object = |state: &DesiredState, name| match &state.backends[name] {
            Published::Valid(Instruction::Weights(desired)) => Arc::clone(desired),
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(&object(&first, "a"), &object(&second, "a")));
        assert_eq!(shown(&second, "b"), "x=3 @2");
        decoder.forget();
        let third = decoder.decode(&[entry("a", r#"{"weights":{"x":1}}"#, 1)]).unwrap();
        assert!(!Arc::ptr_eq(&object(&first, "a"), &object(&third, "a")));
    }

    #[test]
    fn an_answer_that_cannot_be_from_consul_is_an_error() {
        let mut decoder = Decoder::new(PREFIX);
        let bad = Entry { key: Cow::Borrowed("weightd/weights/a"), value: Some(Cow::Borrowed("%%")), modify_index: 1 };
        assert!(matches!(decoder.decode(&[bad]), Err(BadResponse::Base64(_))));
        let elsewhere = Entry { key: Cow::Borrowed("other/a"), value: None, modify_index: 1 };
        assert!(matches!(decoder.decode(&[elsewhere]), Err(BadResponse::OutsidePrefix(_))));
    }
}
