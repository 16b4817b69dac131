use crate::model::{Escaped, InvalidName};

/// An invalid key or value. The accepted weights of its backend stay in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The full key in Consul.
    pub key: String,
    /// The `ModifyIndex` of the key.
    pub index: u64,
    /// The reason for the rejection.
    pub reason: Invalid,
}

/// Why a key or a value is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The value has no bytes: it is `null` in Consul's answer.
    #[error("the value is empty")]
    Empty,
    /// The value is larger than [`Invalid::MAX_VALUE`]. The number is its size in bytes.
    #[error("the value has {0} bytes; the maximum is {max}", max = Invalid::MAX_VALUE)]
    TooLarge(usize),
    /// The keys of the backend together are too large to read.
    #[error("the keys of this backend are too large to read")]
    Oversized,
    /// The value is not UTF-8.
    #[error("the value is not UTF-8")]
    NotUtf8,
    /// The value is not JSON, or not the shape of a document, or has an invalid weight or a duplicate key.
    #[error("the document is malformed: {}", Escaped(.0))]
    Malformed(String),
    /// The schema version is not supported.
    #[error("the document has version {0}; this weightd supports only version 1")]
    Version(u64),
    /// None of `weights`, `split`, `release`.
    #[error("the document has none of `weights`, `split` and `release`")]
    NoInstruction,
    /// More than one of `weights`, `split`, `release`.
    #[error("the document has more than one of `weights`, `split` and `release`")]
    TwoInstructions,
    /// `"weights": {}`, which a broken template can render.
    #[error("`weights` is empty")]
    EmptyWeights,
    /// The document names more than [`Invalid::MAX_SERVERS`] servers.
    #[error("the document names {0} servers; the maximum is {max}", max = Invalid::MAX_SERVERS)]
    TooManyServers(usize),
    /// The value of a leaf is not a weight.
    #[error("`{}` is not a weight", Escaped(.0))]
    Leaf(String),
    /// The backend has both a document and leaves.
    #[error("the backend has both a document and leaves")]
    DocumentAndLeaves,
    /// A key below a leaf.
    #[error("the key is deeper than <backend>/<server>")]
    Nested,
    /// A folder key has a value.
    #[error("a folder key has a value")]
    FolderValue,
    /// The backend in the key is not a valid HAProxy name.
    #[error("the backend's name is invalid: {0}")]
    BackendName(InvalidName),
    /// The server in the key is not a valid HAProxy name.
    #[error("the server's name is invalid: {0}")]
    ServerName(InvalidName),
}

impl Invalid {
    /// Maximum size of a value, in bytes.
    pub const MAX_VALUE: usize = 64 * 1024;
    /// Maximum number of servers in a document. HAProxy's roundrobin supports 4095 per backend.
    pub const MAX_SERVERS: usize = 4096;

    /// Returns the fix, for hints.
    pub fn remedy(&self) -> &'static str {
        const DOCUMENT: &str =
            r#"write a document such as {"weights": {"blue": 90, "green": 10}}, or use `weightctl set`"#;
        match self {
            Self::Empty | Self::NotUtf8 | Self::Malformed(_) | Self::NoInstruction | Self::TooManyServers(_) => {
                DOCUMENT
            }
            Self::TooLarge(_) => "write a smaller document, with only the servers of this backend",
            Self::Oversized => {
                "delete keys below <backend>/ that are not leaves, or replace the leaves with one document"
            }
            Self::Version(_) => "upgrade this weightd, or write the document as version 1",
            Self::TwoInstructions => "keep exactly one of `weights`, `split` and `release`",
            Self::EmptyWeights => r#"name the servers, or write {"release": true} to stop managing the backend"#,
            Self::Leaf(_) => "write a whole number from 0 to 256, such as 50, without quotes, sign or percent",
            Self::DocumentAndLeaves => "delete the document <backend>, or delete the leaves <backend>/<server>",
            Self::Nested => "delete the key; write only <backend> or <backend>/<server>",
            Self::FolderValue => "delete the key that ends in a slash; the key of a document is <backend>",
            Self::BackendName(_) => "delete the key; use the name of the backend in haproxy.cfg",
            Self::ServerName(_) => "delete the key; use the name of the server in haproxy.cfg",
        }
    }
}
