//! Overrides: weights that an operator sets on one node, without Consul.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    desired::{Back, Desired, Weights},
    model::{Escaped, Moment, ServerName, Weight},
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
            at: None,
            back: None,
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
        Back::Split(split) => expand(split, observed).ok_or(NoBack::Unfit)?,
    };
    for name in document.weights.keys() {
        weights.entry(name.clone()).or_insert(Weight::ZERO);
    }
    if weights.values().all(|weight| weight.is_zero()) {
        return Err(NoBack::Unfit);
    }
    Ok(weights)
}

/// Weights of at most 256 for the shares of a split; none where a server matches two patterns, or a pattern with a share
/// matches no server.
fn expand(split: &crate::desired::Split, observed: &Observed) -> Option<Weights> {
    let mut parts: Vec<(&ServerName, f64)> = Vec::new();
    for (pattern, share) in split.shares() {
        let group: Vec<_> = observed.servers.iter().filter(|server| pattern.matches(server.name.as_str())).collect();
        if group.is_empty() && share.percent() > 0.0 {
            return None;
        }
        let sum: f64 = group.iter().map(|server| f64::from(server.initial.get())).sum();
        #[expect(clippy::cast_precision_loss, reason = "a number of servers")]
        let count = group.len() as f64;
        for server in group {
            let ratio = if sum > 0.0 { f64::from(server.initial.get()) / sum } else { 1.0 / count };
            parts.push((&server.name, share.percent() * ratio));
        }
    }
    let highest = parts.iter().map(|(_, part)| *part).fold(0.0, f64::max);
    let mut weights = Weights::new();
    for (name, part) in parts {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 256")]
        let weight = (part / highest * 256.0).round().clamp(0.0, 256.0) as u64;
        // A share above 0 keeps some traffic.
        let weight = if part > 0.0 { weight.max(1) } else { 0 };
        if weights.insert(name.clone(), Weight::new(weight).ok()?).is_some() {
            return None;
        }
    }
    Some(weights)
}

#[cfg(test)]
mod tests;
