use crate::model::{Escaped, InvalidName};

/// A key or a value that is refused. What was accepted for its backend stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The full key, as Consul has it.
    pub key: String,
    /// Its `ModifyIndex`.
    pub index: u64,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What can be wrong with a key or a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No bytes at all: a `null` value in Consul's answer.
    #[error("the value is empty")]
    Empty,
    /// More bytes than [`Reason::MAX_VALUE`].
    #[error("the value has {0} bytes, more than {max}", max = Reason::MAX_VALUE)]
    TooLarge(usize),
    /// Bytes that are no text.
    #[error("the value is not UTF-8")]
    NotUtf8,
    /// Not JSON, not the document's shape, a number that is no weight, a key given twice.
    #[error("the document is malformed: {}", Escaped(.0))]
    Malformed(String),
    /// A schema this version cannot read.
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
    #[error("the document names {0} servers, more than {max}", max = Reason::MAX_SERVERS)]
    TooManyServers(usize),
    /// Shares by pattern, which this version cannot expand.
    #[error("`split` is not supported yet")]
    SplitUnsupported,
    /// A leaf's value that is no weight.
    #[error("`{}` is not a weight", Escaped(.0))]
    Leaf(String),
    /// A document and leaves for the same backend.
    #[error("the backend has a document and leaves at once")]
    DocumentAndLeaves,
    /// A key below a leaf.
    #[error("the key lies deeper than <backend>/<server>")]
    Nested,
    /// A folder key that carries a value.
    #[error("a folder key carries a value")]
    FolderValue,
    /// The backend's part of the key is no name of HAProxy's.
    #[error("the backend's name cannot be: {0}")]
    BackendName(InvalidName),
    /// The server's part of the key is no name of HAProxy's.
    #[error("the server's name cannot be: {0}")]
    ServerName(InvalidName),
}

impl Reason {
    /// The most bytes a value may have.
    pub const MAX_VALUE: usize = 64 * 1024;
    /// The most servers a document may name: what HAProxy's roundrobin takes in one backend is 4095.
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
