//! The value of `nodes/<node>`: what a node has now, for one root.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::NodeName;
use crate::model::{BackendName, Escaped, Timestamp};

/// What a node says of itself. In JSON, with `v` first:
///
/// ```json
/// {"v": 1, "node": "lb-1", "version": "0.1.0 (abc1234)", "mode": "enforce", "machine": "…", "incarnation": "…",
///  "instances": [{"name": "edge", "up": true, "version": "2.6.12", "pid": 17, "since": "2026-11-21T10:00:00Z"}],
///  "applied_index": 4711,                      absent until a plain GET has completed in this session
///  "recent": [["app1", 4711, "set"]],          the documents with the highest ModifyIndex, highest first
///  "out": [["app2", "guarded", "2026-11-21T10:00:00Z"]],   what is not as desired
///  "lacks": ["app3"],                          documents for backends that no HAProxy here has
///  "backends": 3,                              how many backends have a document
///  "filtered": true,                           where Consul said that it hid keys from the token
///  "cut": {"lacks": 12}}                       how many entries were left out to keep the value small
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub node: NodeName,
    /// The version of weightd with its commit.
    #[serde(default)]
    pub version: String,
    /// Whether it enforces.
    pub mode: Mode,
    /// The machine: the same after a restart, another one on another host.
    #[serde(default)]
    pub machine: String,
    /// Random for each start of weightd.
    #[serde(default)]
    pub incarnation: String,
    /// Its HAProxy instances that follow this root.
    #[serde(default)]
    pub instances: Vec<InstanceReport>,
    /// The highest `ModifyIndex` of the last answer whose documents were all decided and read back, or stand in `out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_index: Option<u64>,
    /// How the documents with the highest `ModifyIndex` stand, highest first; at most [`NodeReport::MAX_RECENT`].
    #[serde(default)]
    pub recent: Vec<Recent>,
    /// What is not as desired.
    #[serde(default)]
    pub out: Vec<Out>,
    /// The backends with a document that no HAProxy here has.
    #[serde(default)]
    pub lacks: Vec<BackendName>,
    /// How many backends have a document.
    #[serde(default)]
    pub backends: u64,
    /// Whether Consul said that it hid keys from the token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filtered: bool,
    /// How many entries of each list were left out.
    #[serde(default, skip_serializing_if = "Cut::is_none")]
    pub cut: Cut,
}

/// Whether a node enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It sets weights.
    Enforce,
    /// It only shows what it would do; it never counts.
    Observe,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// A HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Its name in the configuration.
    pub name: String,
    /// Whether it answers and takes weights.
    pub up: bool,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The Pid of the process that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Since when it is up, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it is not up: a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How a document stands on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Each HAProxy that has the backend was read back and has it.
    Set,
    /// No HAProxy here has the backend.
    Lacks,
    /// It is not as desired: a word, such as `guarded`.
    Not(String),
}

impl How {
    /// The word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Set => "set",
            Self::Lacks => "lacks",
            Self::Not(reason) => reason,
        }
    }
}

impl From<String> for How {
    fn from(word: String) -> Self {
        match &*word {
            "set" => Self::Set,
            "lacks" => Self::Lacks,
            _ => Self::Not(word),
        }
    }
}

/// One document and how it stands. In JSON `["app1", 4711, "set"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// The backend.
    pub backend: BackendName,
    /// The `ModifyIndex` of its document.
    pub index: u64,
    /// How it stands.
    pub how: How,
}

impl Serialize for Recent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.backend, self.index, self.how.as_str()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Recent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (backend, index, how) = <(BackendName, u64, String)>::deserialize(deserializer)?;
        Ok(Self { backend, index, how: how.into() })
    }
}

/// A backend that is not as desired. In JSON `["app2", "guarded", "2026-11-21T10:00:00Z"]`, `null` for an unknown time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    /// The backend.
    pub backend: BackendName,
    /// Why: a word.
    pub reason: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl Serialize for Out {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.backend, &self.reason, self.since).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Out {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (backend, reason, since) = <(BackendName, String, Option<Timestamp>)>::deserialize(deserializer)?;
        Ok(Self { backend, reason, since })
    }
}

/// How many entries were left out of each list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cut {
    /// Of `lacks`, which is cut first.
    #[serde(skip_serializing_if = "is_zero")]
    pub lacks: usize,
    /// Of `out`, which is cut next.
    #[serde(skip_serializing_if = "is_zero")]
    pub out: usize,
    /// Of `recent`, the lowest indexes first.
    #[serde(skip_serializing_if = "is_zero")]
    pub recent: usize,
    /// Of `instances`, which are cut last.
    #[serde(skip_serializing_if = "is_zero")]
    pub instances: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Cut {
    /// Whether every list is complete.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a report cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// More bytes than a report may have.
    #[error("the report has {bytes} bytes, more than {most}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// The most it may have.
        most: usize,
    },
    /// A version that this program cannot read.
    #[error("the report has version {0}, this program reads version 1")]
    Version(u64),
    /// Not JSON, or not the shape of a report.
    #[error("the report is malformed: {}", Escaped(.0))]
    Malformed(String),
    /// Two of its statements cannot both be true.
    #[error("the report contradicts itself: {}", Escaped(.0))]
    Contradicts(String),
}

/// Reads a value of version 1 with at most `most` bytes. Unknown fields are ignored.
pub(super) fn parse_version_1<T: DeserializeOwned>(value: &[u8], most: usize) -> Result<T, BadReport> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }

    if value.len() > most {
        return Err(BadReport::TooLarge { bytes: value.len(), most });
    }
    let malformed = |error: serde_json::Error| BadReport::Malformed(error.to_string());
    // The version comes first: a later one may change what everything else means.
    match serde_json::from_slice::<Version>(value).map_err(malformed)?.v {
        1 => serde_json::from_slice(value).map_err(malformed),
        other => Err(BadReport::Version(other)),
    }
}

impl NodeReport {
    /// The most bytes of the value.
    pub const MAX_BYTES: usize = 4 * 1024;
    /// The most documents in `recent`.
    pub const MAX_RECENT: usize = 64;

    /// Reads the value of `nodes/<node>`. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`BadReport`] says why it does not count.
    pub fn parse(node: &NodeName, value: &[u8]) -> Result<Self, BadReport> {
        let report: Self = parse_version_1(value, Self::MAX_BYTES)?;
        report.contradiction(node).map_or(Ok(report), |what| Err(BadReport::Contradicts(what)))
    }

    /// Two statements that cannot both be true, if there are any.
    fn contradiction(&self, node: &NodeName) -> Option<String> {
        if self.node != *node {
            return Some(format!("it is of node {}", self.node));
        }
        if self.recent.len() > Self::MAX_RECENT {
            return Some(format!("`recent` has {} entries", self.recent.len()));
        }
        let twice = |mut names: Vec<&BackendName>| {
            names.sort_unstable();
            names.windows(2).any(|pair| pair[0] == pair[1])
        };
        if twice(self.recent.iter().map(|recent| &recent.backend).collect())
            || twice(self.out.iter().map(|out| &out.backend).chain(&self.lacks).collect())
        {
            return Some("a backend is listed twice".to_owned());
        }
        let listed = |name: &BackendName| self.out.iter().any(|out| out.backend == *name);
        for Recent { backend, how, .. } in &self.recent {
            let wrong = match how {
                How::Set => listed(backend) || self.lacks.contains(backend),
                How::Lacks => listed(backend),
                How::Not(_) => self.lacks.contains(backend),
            };
            if wrong {
                return Some(format!("{backend} is listed as `{}` and as something else", how.as_str()));
            }
        }
        if self.recent.len() as u64 > self.backends {
            return Some(format!("`recent` has more than {} backends", self.backends));
        }
        None
    }

    /// Whether each HAProxy is up, and all of them are listed.
    pub fn all_up(&self) -> bool {
        self.cut.instances == 0 && self.instances.iter().all(|instance| instance.up)
    }

    /// The value of the key, at most [`NodeReport::MAX_BYTES`]. What does not fit is cut: `lacks` first, then `out`, then the
    /// lowest indexes of `recent`, and each is marked as cut.
    pub fn to_value(mut self) -> Vec<u8> {
        self.shorten();
        let value = self.encoded();
        if value.len() <= Self::MAX_BYTES {
            return value;
        }
        self.cut_list(|report| &mut report.lacks, |cut| &mut cut.lacks);
        self.cut_list(|report| &mut report.out, |cut| &mut cut.out);
        self.cut_list(|report| &mut report.recent, |cut| &mut cut.recent);
        self.cut_list(|report| &mut report.instances, |cut| &mut cut.instances);
        self.encoded()
    }

    /// Leaves out as few of the last entries of a list as make the value fit.
    fn cut_list<T: Clone>(&mut self, list: fn(&mut Self) -> &mut Vec<T>, cut: fn(&mut Cut) -> &mut usize) {
        if self.encoded().len() <= Self::MAX_BYTES {
            return;
        }
        let all = std::mem::take(list(self));
        let keep = |report: &mut Self, kept: usize| {
            *list(report) = all.get(..kept).unwrap_or_default().to_vec();
            *cut(&mut report.cut) = all.len() - kept;
        };
        // The most that fit, by halving; 0 where nothing does.
        let (mut fit, mut too_many) = (0, all.len());
        while fit + 1 < too_many {
            let middle = usize::midpoint(fit, too_many);
            keep(self, middle);
            if self.encoded().len() <= Self::MAX_BYTES { fit = middle } else { too_many = middle }
        }
        keep(self, fit);
    }

    fn encoded(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            v: u64,
            #[serde(flatten)]
            report: &'a NodeReport,
        }

        // Texts and numbers in structs: there is nothing that JSON could not hold.
        serde_json::to_vec(&Versioned { v: 1, report: self }).unwrap_or_default()
    }

    /// Bounds the texts, so that what cannot be cut always fits.
    fn shorten(&mut self) {
        const MAX_TEXT: usize = 64;
        let bound = |text: &mut String| {
            // Escaped, a character takes at most six bytes.
            if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
                text.truncate(at);
            }
        };
        for text in [&mut self.version, &mut self.machine, &mut self.incarnation] {
            bound(text);
        }
        for instance in &mut self.instances {
            bound(&mut instance.name);
            instance.version.iter_mut().chain(&mut instance.why).for_each(bound);
        }
    }
}

#[cfg(test)]
mod tests;
