use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess},
};
use serde_json::value::RawValue;

use super::{Back, Invalid, Split, Weights};
use crate::model::{ServerName, Weight};

/// A valid document.
#[derive(Debug)]
pub struct Document {
    /// The instruction.
    pub kind: Kind,
    /// Whether the document may pass the guards.
    pub force: bool,
    /// The author.
    pub by: Option<String>,
    /// The reason.
    pub reason: Option<String>,
    /// A time for people.
    pub at: Option<String>,
    /// Where the present shift began. A value that cannot be read as that is among the unknown fields: it decides nothing,
    /// so it rejects no document.
    pub back: Option<Back>,
    /// Unknown fields, with their original text.
    pub unknown: BTreeMap<String, Box<RawValue>>,
}

/// The instruction of a document.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A weight for each named server.
    Weights(Weights),
    /// A share for each pattern of servers. Each node expands it for the servers that it has.
    Split(Split),
    /// Stop managing the backend.
    Release,
}

impl Document {
    /// Parses a document.
    ///
    /// # Errors
    /// [`Invalid`] with the reason for the rejection.
    pub fn parse(value: &[u8]) -> Result<Self, Invalid> {
        if value.is_empty() {
            return Err(Invalid::Empty);
        }
        if value.len() > Invalid::MAX_VALUE {
            return Err(Invalid::TooLarge(value.len()));
        }
        let text = std::str::from_utf8(value).map_err(|_| Invalid::NotUtf8)?;
        let raw: Raw = serde_json::from_str(text).map_err(|error| Invalid::Malformed(error.to_string()))?;
        raw.check()
    }
}

/// The fields of a document before validation. A duplicate field is already rejected.
#[derive(Default)]
struct Raw {
    v: Option<u64>,
    weights: Option<UniqueWeights>,
    split: Option<Box<RawValue>>,
    release: Option<bool>,
    force: Option<bool>,
    by: Option<Text>,
    reason: Option<Text>,
    at: Option<Text>,
    back: Option<Box<RawValue>>,
    unknown: BTreeMap<String, Box<RawValue>>,
}

/// A text or `null`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text(Option<String>);

impl Raw {
    fn check(mut self) -> Result<Document, Invalid> {
        // The version is checked first, because another version may change the meaning of all fields.
        match self.v {
            None | Some(1) => {}
            Some(other) => return Err(Invalid::Version(other)),
        }
        let kind = match (self.weights, self.split, self.release) {
            (None, None, None) => return Err(Invalid::NoInstruction),
            (Some(UniqueWeights(weights)), None, None) if weights.is_empty() => return Err(Invalid::EmptyWeights),
            (Some(UniqueWeights(weights)), None, None) if weights.len() > Invalid::MAX_SERVERS => {
                return Err(Invalid::TooManyServers(weights.len()));
            }
            (Some(UniqueWeights(weights)), None, None) => Kind::Weights(weights),
            (None, Some(split), None) => {
                Kind::Split(serde_json::from_str(split.get()).map_err(|error| Invalid::Malformed(error.to_string()))?)
            }
            (None, None, Some(true)) => Kind::Release,
            (None, None, Some(false)) => {
                return Err(Invalid::Malformed("`release` can only be true".to_owned()));
            }
            _ => return Err(Invalid::TwoInstructions),
        };
        let back = self.back.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok());
        if back.is_none()
            && let Some(raw) = self.back
        {
            self.unknown.insert("back".to_owned(), raw);
        }
        Ok(Document {
            kind,
            force: self.force.unwrap_or(false),
            by: self.by.and_then(|Text(text)| text),
            reason: self.reason.and_then(|Text(text)| text),
            at: self.at.and_then(|Text(text)| text),
            back,
            unknown: self.unknown,
        })
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        /// Reads the value of a known field. A duplicate is an error, because the intended value is unknown.
        fn once<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
            slot: &mut Option<T>,
            name: &'static str,
            map: &mut A,
        ) -> Result<(), A::Error> {
            if slot.is_some() {
                return Err(de::Error::duplicate_field(name));
            }
            *slot = Some(map.next_value()?);
            Ok(())
        }

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw::default();
                while let Some(field) = map.next_key::<String>()? {
                    match field.as_str() {
                        "v" => once(&mut raw.v, "v", &mut map)?,
                        "weights" => once(&mut raw.weights, "weights", &mut map)?,
                        "split" => once(&mut raw.split, "split", &mut map)?,
                        "release" => once(&mut raw.release, "release", &mut map)?,
                        "force" => once(&mut raw.force, "force", &mut map)?,
                        "by" => once(&mut raw.by, "by", &mut map)?,
                        "reason" => once(&mut raw.reason, "reason", &mut map)?,
                        "at" => once(&mut raw.at, "at", &mut map)?,
                        "back" => once(&mut raw.back, "back", &mut map)?,
                        _ => {
                            let value = map.next_value()?;
                            if raw.unknown.contains_key(&field) {
                                return Err(de::Error::custom(format_args!("duplicate field `{field}`")));
                            }
                            raw.unknown.insert(field, value);
                        }
                    }
                }
                Ok(raw)
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// A JSON object of weights. A duplicate server is rejected.
struct UniqueWeights(Weights);

impl<'de> Deserialize<'de> for UniqueWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = UniqueWeights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of server names and weights")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueWeights, A::Error> {
                let mut weights = Weights::new();
                while let Some(server) = map.next_key::<ServerName>()? {
                    let weight: Weight = map.next_value()?;
                    if weights.contains_key(&server) {
                        return Err(de::Error::custom(format_args!("server `{server}` is named twice")));
                    }
                    weights.insert(server, weight);
                }
                Ok(UniqueWeights(weights))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Invalid {
        Document::parse(text.as_bytes()).expect_err(text)
    }

    fn weights(text: &str) -> Vec<(String, u16)> {
        match Document::parse(text.as_bytes()).expect(text).kind {
            Kind::Weights(weights) => weights.into_iter().map(|(s, w)| (s.to_string(), w.get())).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn all_fields_are_parsed() {
        let text = r#"{"v": 1, "weights": {"green": 10, "blue": 90}, "by": "alice", "reason": "10 % canary",
                       "at": "2026-11-21T10:00:00Z", "force": true, "ticket": {"id": 1.10}}"#;
        assert_eq!(weights(text), [("blue".to_owned(), 90), ("green".to_owned(), 10)]);
        let document = Document::parse(text.as_bytes()).unwrap();
        assert!(document.force);
        assert_eq!(document.by.as_deref(), Some("alice"));
        assert_eq!(document.unknown["ticket"].get(), r#"{"id": 1.10}"#, "unknown fields keep their original text");
    }

    #[test]
    fn a_split_has_a_share_for_each_pattern() {
        let Kind::Split(split) = Document::parse(br#"{"split":{"blue-*":90,"green-*":10}}"#).unwrap().kind else {
            panic!("no split")
        };
        assert_eq!(split.shares().values().map(|share| share.percent()).collect::<Vec<_>>(), [90.0, 10.0]);
    }

    #[test]
    fn optional_fields_may_be_missing() {
        assert_eq!(weights(r#"{"weights":{"a":0}}"#), [("a".to_owned(), 0)]);
        assert_eq!(Document::parse(br#"{"release":true}"#).unwrap().kind, Kind::Release);
        assert_eq!(Document::parse(br#"{"release":true,"by":null}"#).unwrap().by, None);
    }

    #[test]
    fn back_is_carried_and_never_rejects() {
        let document =
            |back: &str| Document::parse(format!(r#"{{"weights":{{"a":1}},"back":{back}}}"#).as_bytes()).expect(back);
        let read = document(r#"{"weights":{"blue":100,"green":0}}"#);
        assert!(matches!(read.back, Some(Back::Weights(weights)) if weights["blue"].get() == 100));
        assert!(read.unknown.is_empty());
        assert!(matches!(document(r#"{"split":{"blue-*":100}}"#).back, Some(Back::Split(_))));
        for bad in ["1", "{}", r#"{"weights":{"a":300}}"#, r#"{"percent":{}}"#] {
            let read = document(bad);
            assert!(read.back.is_none(), "{bad}");
            assert_eq!(read.unknown["back"].get(), bad, "it is kept and reported as an unknown field");
        }
    }

    #[test]
    fn invalid_weights_are_rejected() {
        for number in [
            "-1",
            "257",
            "1.5",
            "1e2",
            "\"50\"",
            "\"50%\"",
            "50%",
            "+5",
            "007",
            "null",
            "true",
            "[]",
            "18446744073709551616",
        ] {
            let text = format!(r#"{{"weights":{{"blue":{number}}}}}"#);
            assert!(matches!(reason(&text), Invalid::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn invalid_names_are_rejected() {
        for name in ["a;b", "a\\nb", "a b", "#1", "@1", "", "a/b", "\\u202e", "\\u0000"] {
            let text = format!(r#"{{"weights":{{"{name}":1}}}}"#);
            assert!(matches!(reason(&text), Invalid::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn duplicate_keys_are_rejected() {
        for text in [
            r#"{"weights":{"a":1,"a":1}}"#,
            r#"{"weights":{"a":1},"weights":{"b":1}}"#,
            r#"{"weights":{"a":1},"v":1,"v":1}"#,
            r#"{"weights":{"a":1},"by":null,"by":"x"}"#,
            r#"{"weights":{"a":1},"x":1,"x":2}"#,
            r#"{"weights":{"a":1},"back":{},"back":{}}"#,
        ] {
            assert!(matches!(reason(text), Invalid::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn a_document_must_have_exactly_one_instruction() {
        assert_eq!(reason("{}"), Invalid::NoInstruction);
        assert_eq!(reason(r#"{"by":"x"}"#), Invalid::NoInstruction);
        assert_eq!(reason(r#"{"weights":{}}"#), Invalid::EmptyWeights);
        assert_eq!(reason(r#"{"weights":{"a":1},"release":true}"#), Invalid::TwoInstructions);
        assert_eq!(reason(r#"{"weights":{"a":1},"split":{"a*":1}}"#), Invalid::TwoInstructions);
        assert_eq!(reason(r#"{"split":{},"release":true}"#), Invalid::TwoInstructions);
        assert_eq!(reason(r#"{"v":2,"split":1}"#), Invalid::Version(2));
        for text in
            [r#"{"split":{}}"#, r#"{"split":{"a*":99}}"#, r#"{"split":{"a*":50,"a*":50}}"#, r#"{"split":{"a b":100}}"#]
        {
            assert!(matches!(reason(text), Invalid::Malformed(_)), "{text}");
        }
        assert!(matches!(reason(r#"{"release":false}"#), Invalid::Malformed(_)));
    }

    #[test]
    fn an_unknown_version_is_rejected_before_anything_else() {
        assert_eq!(reason(r#"{"v":2,"weights":{"a":1}}"#), Invalid::Version(2));
        assert_eq!(reason(r#"{"v":0,"weights":{"a":1}}"#), Invalid::Version(0));
        assert_eq!(reason(r#"{"v":2,"percent":{}}"#), Invalid::Version(2));
    }

    #[test]
    fn values_that_are_not_json_objects_are_rejected() {
        assert_eq!(reason(""), Invalid::Empty);
        assert_eq!(Document::parse(&[0xff, 0xfe]).unwrap_err(), Invalid::NotUtf8);
        let deep = "[".repeat(10_000);
        for text in ["null", "50", "[]", "\"x\"", "{", "{}x", "not json", deep.as_str(), "\u{feff}{}"] {
            assert!(matches!(reason(text), Invalid::Malformed(_)), "{text}");
        }
        assert_eq!(reason(&" ".repeat(Invalid::MAX_VALUE + 1)), Invalid::TooLarge(Invalid::MAX_VALUE + 1));
    }

    #[test]
    fn too_many_servers_are_rejected() {
        let servers: Vec<_> = (0..=Invalid::MAX_SERVERS).map(|n| format!("\"s{n}\":1")).collect();
        let text = format!("{{\"weights\":{{{}}}}}", servers.join(","));
        assert_eq!(reason(&text), Invalid::TooManyServers(Invalid::MAX_SERVERS + 1));
    }
}
