//! How values of keys are read and written: size, version, shape, in this order.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::model::Escaped;

/// Why the value of a key cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// More bytes than the key may have.
    #[error("the value has {0} bytes; the maximum is {1}")]
    TooLarge(usize, usize),
    /// A version that this program cannot read.
    #[error("the value has version {0}; this program reads version 1")]
    Version(u64),
    /// Not JSON, or not the shape of the key.
    #[error("the value is malformed: {}", Escaped(.0))]
    Malformed(String),
}

/// Reads a value of at most `max` bytes.
pub(super) fn read<T: DeserializeOwned>(value: &[u8], max: usize) -> Result<T, BadValue> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }

    #[derive(Deserialize)]
    struct Body<T> {
        #[serde(flatten)]
        body: T,
    }

    if value.len() > max {
        return Err(BadValue::TooLarge(value.len(), max));
    }
    let malformed = |error: serde_json::Error| BadValue::Malformed(error.to_string());
    // The version comes first: another one may change the meaning of everything else.
    match serde_json::from_slice::<Version>(value).map_err(malformed)?.v {
        1 => {}
        other => return Err(BadValue::Version(other)),
    }
    serde_json::from_slice::<Body<T>>(value).map(|body| body.body).map_err(malformed)
}

/// The value with `v` first.
pub(super) fn write<T: Serialize>(body: &T) -> Vec<u8> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        v: u64,
        #[serde(flatten)]
        body: &'a T,
    }

    // Texts, numbers and maps with text keys: there is nothing that JSON could not hold.
    serde_json::to_vec(&Versioned { v: 1, body }).unwrap_or_default()
}

/// An identifier: 1 to 64 characters of `[A-Za-z0-9_.-]`.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}
