//! Overrides: weights that an operator sets on one node, without Consul.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    desired::{Back, Desired, Weights},
    expand::expand,
    model::{Escaped, Moment, Weight},
    observed::Observed,
};

/// The override of one backend. It ends by a person, or by a document above [`Override::over`]. Its time does not end it:
/// the weights stay, and the node alarms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The weights. As in a document, other servers of the backend stay as they are.
    pub weights: Weights,
    /// Whether it may pass the guards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The highest `ModifyIndex` that the node knew of the backend when the override began; 0 without a document.
    pub over: u64,
    /// When its time is over, in seconds since 1970. Only the alarm depends on it, so that a jump of the clock moves no weight.
    pub until_second: i64,
    /// The same by the clock of this run of weightd.
    #[serde(skip)]
    pub until: Moment,
    /// Whether its time is over.
    #[serde(skip)]
    pub expired: bool,
    /// The reason in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The author in the request. Not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The user id of the client, from the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

impl Override {
    /// The override as the desired state of its backend.
    pub fn desired(&self) -> Arc<Desired> {
        Arc::new(Desired {
            weights: self.weights.clone(),
            force: self.force,
            index: self.over,
            by: self.by.clone(),
            reason: self.reason.clone(),
            ..Desired::default()
        })
    }

    /// Returns author and reason as one line, escaped.
    pub fn explained(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {}", Escaped(by))).unwrap_or_default();
        let reason = self.reason.as_ref().map(|reason| format!(": {}", Escaped(reason))).unwrap_or_default();
        format!("overridden{by}{reason}; the document in Consul is not in force on this HAProxy")
    }
}

/// Why the field `back` of a document gives no weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoBack {
    /// There is no document in force.
    #[error("no document of this backend is in force")]
    NoDocument,
    /// The document has no such field.
    #[error("the document in force has no field `back`")]
    Absent,
    /// The field is in patterns, and they match none of the servers, or leave them without traffic.
    #[error("the field `back` of the document in force does not fit the servers of this HAProxy")]
    Unfit,
}

/// The weights that lead back to the start of the shift of `document`: its field `back`. Each server that the document
/// names, and `back` does not, gets 0.
///
/// A `back` in patterns is expanded over the servers in `observed`. Within a group the configured weights give the ratio.
pub fn back(document: Option<&Desired>, observed: &Observed) -> Result<Weights, NoBack> {
    let document = document.ok_or(NoBack::NoDocument)?;
    let mut weights = match document.back.as_ref().ok_or(NoBack::Absent)? {
        Back::Weights(weights) => weights.clone(),
        Back::Split(split) => expand(split, observed).map_err(|_| NoBack::Unfit)?.weights,
    };
    for name in document.weights.keys() {
        weights.entry(name.clone()).or_insert(Weight::ZERO);
    }
    if weights.values().all(|weight| weight.is_zero()) {
        return Err(NoBack::Unfit);
    }
    Ok(weights)
}

#[cfg(test)]
mod tests;
