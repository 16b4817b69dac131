use crate::model::{Escaped, InvalidName};

/// A key or a value that is invalid. What was accepted for its backend stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The full key, as Consul has it.
    pub key: String,
    /// Its `ModifyIndex`.
    pub index: u64,
    /// What is wrong with it.
    pub reason: Invalid,
}

/// Why a key or a value is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No bytes at all: a `null` value in Consul's answer.
    #[error("the value is empty")]
    Empty,
    /// More bytes than [`Invalid::MAX_VALUE`].
    #[error("the value has {0} bytes, more than {max}", max = Invalid::MAX_VALUE)]
    TooLarge(usize),
    /// All keys of the backend together are too large to be read.
    #[error("the keys of this backend are too large to be read")]
    Oversized,
    /// Bytes that are not text.
    #[error("the value is not UTF-8")]
    NotUtf8,
    /// Not JSON, not the shape of a document, a number that is not a weight, a duplicate key.
    #[error("the document is malformed: {}", Escaped(.0))]
    Malformed(String),
    /// A schema that this version cannot read.
    #[error("the document has version {0}, this weightd reads version 1")]
    Version(u64),
    /// None of `weights`, `split`, `release`.
    #[error("the document has none of `weights`, `split` and `release`")]
    NoInstruction,
    /// More than one of `weights`, `split`, `release`.
    #[error("the document has more than one of `weights`, `split` and `release`")]
    TwoInstructions,
    /// `"weights": {}`: what a broken template renders.
    #[error("`weights` is empty")]
    EmptyWeights,
    /// More servers than one backend can have.
    #[error("the document names {0} servers, more than {max}", max = Invalid::MAX_SERVERS)]
    TooManyServers(usize),
    /// Shares by pattern, which this version cannot expand.
    #[error("`split` is not supported yet")]
    SplitUnsupported,
    /// A leaf whose value is not a weight.
    #[error("`{}` is not a weight", Escaped(.0))]
    Leaf(String),
    /// A document and leaves for the same backend.
    #[error("the backend has a document and leaves at once")]
    DocumentAndLeaves,
    /// A key below a leaf.
    #[error("the key is deeper than <backend>/<server>")]
    Nested,
    /// A folder key that carries a value.
    #[error("a folder key carries a value")]
    FolderValue,
    /// The key's backend is not a name that HAProxy can have.
    #[error("the backend's name is invalid: {0}")]
    BackendName(InvalidName),
    /// The key's server is not a name that HAProxy can have.
    #[error("the server's name is invalid: {0}")]
    ServerName(InvalidName),
}

impl Invalid {
    /// The most bytes of a value.
    pub const MAX_VALUE: usize = 64 * 1024;
    /// The most servers that a document may name. HAProxy's roundrobin takes 4095 in one backend.
    pub const MAX_SERVERS: usize = 4096;

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        const DOCUMENT: &str =
            r#"write a document such as {"weights": {"blue": 90, "green": 10}}, or use `weightctl set`"#;
        match self {
            Self::Empty | Self::NotUtf8 | Self::Malformed(_) | Self::NoInstruction | Self::TooManyServers(_) => {
                DOCUMENT
            }
            Self::TooLarge(_) => "write a smaller document; one names the servers of one backend and nothing else",
            Self::Oversized => "delete what is no leaf below <backend>/, or replace the leaves by one document",
            Self::Version(_) => "upgrade this weightd, or write the document as version 1",
            Self::TwoInstructions => "keep exactly one of `weights`, `split` and `release`",
            Self::EmptyWeights => r#"name the servers, or write {"release": true} to stop managing the backend"#,
            Self::SplitUnsupported => "name each server under `weights`",
            Self::Leaf(_) => "write a whole number from 0 to 256, such as 50, without quotes, sign or percent",
            Self::DocumentAndLeaves => "delete either the document <backend> or the leaves <backend>/<server>",
            Self::Nested => "keep keys to <backend> or <backend>/<server>",
            Self::FolderValue => "delete the key that ends in a slash; a document's key is <backend>",
            Self::BackendName(_) => "delete the key; write the backend's name as haproxy.cfg has it",
            Self::ServerName(_) => "delete the key; write the server's name as haproxy.cfg has it",
        }
    }
}
