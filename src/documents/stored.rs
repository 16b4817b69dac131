//! The backends in Consul, decoded by weightd's own decoder. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use weightd_core::{
    desired::{BadResponse, Decoder, Document, Entry, Instruction, KeyKind, Published, Rejected, key_kind},
    model::{BackendName, ServerName, Weight},
};

/// The layout of a backend's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One document, `<backend>`.
    Document,
    /// One key per server, `<backend>/<server>`.
    Leaves,
    /// Both a document and leaves, which is rejected.
    Both,
}

/// One backend in Consul.
#[derive(Debug)]
pub struct Stored {
    /// Its name.
    pub backend: BackendName,
    /// The layout of its keys.
    pub layout: Layout,
    /// `ModifyIndex` of the document, or the greatest of the leaves.
    pub index: u64,
    /// The content of its keys.
    pub content: Content,
}

/// The content of a backend's keys.
#[derive(Debug)]
pub enum Content {
    /// A valid document.
    Document(Document),
    /// Valid leaves.
    Leaves(BTreeMap<ServerName, Leaf>),
    /// Invalid keys, which every weightd rejects.
    Rejected(Arc<Rejected>),
}

/// The key of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its weight.
    pub weight: Weight,
    /// Its `ModifyIndex`.
    pub index: u64,
}

/// All backends below the prefix.
#[derive(Debug, Default)]
pub struct Everything {
    /// The backends, by name.
    pub backends: Vec<Stored>,
    /// Keys with an invalid backend name; the first of them.
    pub stray: Vec<Arc<Rejected>>,
    /// Total number of such keys.
    pub stray_total: usize,
    /// Whether ACLs hide keys from this token.
    pub filtered: bool,
}

/// Decodes the keys below `prefix`.
pub fn read(prefix: &str, entries: &[Entry<'_>]) -> Result<Everything, BadResponse> {
    // weightd's own decoder validates the keys, so that a document shown as valid is a document that weightd accepts.
    let state = Decoder::new(prefix).decode(entries)?;
    let mut keys: BTreeMap<&str, Keys<'_>> = BTreeMap::new();
    for entry in entries {
        match key_kind(&entry.key[prefix.len()..]) {
            KeyKind::Document(backend) => keys.entry(backend).or_default().document = Some(entry),
            KeyKind::Leaf(backend, server) => {
                keys.entry(backend).or_default().leaves.insert(server, entry.modify_index);
            }
            KeyKind::Nested(backend) => keys.entry(backend).or_default().nested = true,
            KeyKind::Folder(_) => {}
        }
    }
    let mut backends = Vec::with_capacity(state.backends.len());
    for (backend, source) in &state.backends {
        let keys = keys.remove(backend.as_str()).unwrap_or_default();
        backends.push(keys.stored(backend.clone(), source.clone())?);
    }
    Ok(Everything { backends, stray: state.stray.clone(), stray_total: state.stray_total, filtered: false })
}

/// The keys of one backend.
#[derive(Default)]
struct Keys<'e> {
    document: Option<&'e Entry<'e>>,
    leaves: BTreeMap<&'e str, u64>,
    nested: bool,
}

impl Keys<'_> {
    fn stored(self, backend: BackendName, source: Published) -> Result<Stored, BadResponse> {
        let layout = match self.document {
            Some(_) if self.leaves.is_empty() && !self.nested => Layout::Document,
            Some(_) => Layout::Both,
            None => Layout::Leaves,
        };
        let (index, content) = match (source, self.document) {
            (Published::Rejected(rejected), _) => (rejected.index, Content::Rejected(rejected)),
            (Published::Valid(Instruction::Release { index }), Some(entry)) => (index, document(entry)?),
            (Published::Valid(Instruction::Weights(desired) | Instruction::Leaves(desired)), Some(entry)) => {
                (desired.index, document(entry)?)
            }
            (Published::Valid(Instruction::Weights(desired) | Instruction::Leaves(desired)), None) => {
                let leaves = desired.weights.iter().map(|(server, weight)| {
                    let index = self.leaves.get(server.as_str()).copied().unwrap_or_default();
                    (server.clone(), Leaf { weight: *weight, index })
                });
                (desired.index, Content::Leaves(leaves.collect()))
            }
            // Unreachable: only a document can be a release.
            (Published::Valid(Instruction::Release { index }), None) => (index, Content::Leaves(BTreeMap::new())),
        };
        Ok(Stored { backend, layout, index, content })
    }
}

/// Parses a document again, for the fields that [`Decoder`] drops.
fn document(entry: &Entry<'_>) -> Result<Content, BadResponse> {
    Ok(match Document::parse(&entry.bytes()?) {
        Ok(document) => Content::Document(document),
        Err(reason) => {
            Content::Rejected(Arc::new(Rejected { key: entry.key.to_string(), index: entry.modify_index, reason }))
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::borrow::Cow;

    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    use super::*;

    pub(crate) const PREFIX: &str = "weightd/weights/";

    /// Decodes these keys. Their `ModifyIndex` values are 1, 2, and so on.
    pub(crate) fn everything(keys: &[(&str, &str)]) -> Everything {
        let entries: Vec<_> = (1..)
            .zip(keys)
            .map(|(modify_index, (key, value))| Entry {
                key: Cow::Owned(format!("{PREFIX}{key}")),
                value: (!value.is_empty()).then(|| Cow::Owned(BASE64.encode(value))),
                modify_index,
            })
            .collect();
        read(PREFIX, &entries).unwrap()
    }

    /// Decodes these keys of one backend.
    pub(crate) fn stored(keys: &[(&str, &str)]) -> Stored {
        let mut everything = everything(keys);
        assert_eq!(everything.backends.len(), 1, "{everything:?}");
        everything.backends.remove(0)
    }

    #[test]
    fn both_layouts_are_detected() {
        let document = stored(&[("app", r#"{"weights":{"blue":90},"ticket":7}"#)]);
        assert_eq!((document.layout, document.index), (Layout::Document, 1));
        assert!(matches!(document.content, Content::Document(d) if d.unknown["ticket"].get() == "7"));

        let leaves = stored(&[("app/", ""), ("app/blue", "90"), ("app/green", "10")]);
        assert_eq!((leaves.layout, leaves.index), (Layout::Leaves, 3));
        let Content::Leaves(leaves) = leaves.content else { panic!("{leaves:?}") };
        assert_eq!(leaves["blue"], Leaf { weight: Weight::new(90).unwrap(), index: 2 });
        assert_eq!(leaves["green"], Leaf { weight: Weight::new(10).unwrap(), index: 3 });
    }

    #[test]
    fn keys_that_weightd_rejects_are_rejected() {
        for (keys, layout) in [
            (&[("app", "{}")][..], Layout::Document),
            (&[("app/blue", "x")], Layout::Leaves),
            (&[("app/blue/x", "1")], Layout::Leaves),
            (&[("app", r#"{"weights":{"a":1}}"#), ("app/blue", "1")], Layout::Both),
            (&[("app", r#"{"weights":{"a":1}}"#), ("app/blue/x", "1")], Layout::Both),
        ] {
            let stored = stored(keys);
            assert_eq!(stored.layout, layout, "{keys:?}");
            assert!(matches!(stored.content, Content::Rejected(_)), "{keys:?}");
        }
    }

    #[test]
    fn keys_with_an_invalid_backend_name_are_stray() {
        let everything = everything(&[("a b", "1"), ("app/x", "1")]);
        assert_eq!((everything.backends.len(), everything.stray.len(), everything.stray_total), (1, 1, 1));
    }
}
