//! The expansion of a split for the servers of this HAProxy.

use std::sync::Arc;

use super::Backend;
use crate::{
    accept::{self, Verdict},
    desired::{Desired, Weights},
    expand::{Expansion, Groups, Misfit},
    model::Moment,
    observed::Observed,
};

/// Expands the groups, unless `known` is of the same ones: most readings show the same servers.
fn expanded(groups: Groups, known: Option<(Groups, Expansion)>) -> (Groups, Expansion) {
    known.filter(|(known, _)| *known == groups).unwrap_or_else(|| {
        let expansion = groups.expand();
        (groups, expansion)
    })
}

impl Backend {
    /// Expands the desired split over the observed servers. Nothing changes for a document that names weights.
    pub(super) fn expand(&mut self) -> Result<(), Misfit> {
        let Some(desired) = &self.desired else { return Ok(()) };
        let Some(split) = &desired.split else {
            self.expanded = None;
            return Ok(());
        };
        let (groups, expansion) = expanded(Groups::of(split, &self.observed)?, self.expanded.take());
        if desired.weights != expansion.weights {
            self.desired = Some(Arc::new(Desired { weights: expansion.weights.clone(), ..Desired::clone(desired) }));
        }
        self.expanded = Some((groups, expansion));
        Ok(())
    }

    /// Expands the accepted split over the observed servers, while `desired` is not accepted. A server that was added must
    /// not serve with its configured weight. Returns whether the accepted weights changed.
    ///
    /// If a pattern with a share matches no server any more, the accepted weights stay, and a server that they do not name
    /// gets the weight that fits its group.
    pub(super) fn expand_accepted(&mut self, now: Moment) -> bool {
        let Some(accepted) = &self.accepted else { return false };
        let Some(weights) = expanded_weights(accepted, &self.observed, &mut self.expanded_accepted) else {
            return false;
        };
        if weights == accepted.weights {
            return false;
        }
        let now_accepted = Desired { weights, ..Desired::clone(accepted) };
        let verdict = accept::accept(&now_accepted, Some(accepted), &self.observed, None, now);
        if verdict != Verdict::Accepted {
            return false;
        }
        let same = self.desired.as_ref().is_some_and(|desired| desired.is_same_document(accepted));
        self.accepted = Some(Arc::new(now_accepted));
        if same {
            self.desired.clone_from(&self.accepted);
        }
        true
    }

    /// Whether the weights follow from the servers that this HAProxy has, so that it is read once a second.
    pub fn is_split(&self) -> bool {
        let splits = |desired: &Option<Arc<Desired>>| desired.as_ref().is_some_and(|desired| desired.split.is_some());
        splits(&self.desired) || splits(&self.accepted)
    }

    /// The expansion of the accepted split; none for a document that names weights, and until a reading.
    pub fn expansion(&self) -> Option<&Expansion> {
        let accepted = self.accepted.as_ref().filter(|accepted| accepted.split.is_some())?;
        let mut known = [&self.expanded, &self.expanded_accepted].into_iter().flatten().map(|(_, expansion)| expansion);
        known.find(|expansion| expansion.weights == accepted.weights)
    }
}

/// The weights of a split for these servers; none if there is no split, or a server matches two of its patterns.
fn expanded_weights(
    accepted: &Desired,
    observed: &Observed,
    known: &mut Option<(Groups, Expansion)>,
) -> Option<Weights> {
    let groups = Groups::matching(accepted.split.as_ref()?, observed).ok()?;
    if groups.fit().is_err() {
        let mut weights = accepted.weights.clone();
        weights.extend(groups.additions(&accepted.weights));
        return Some(weights);
    }
    let (groups, expansion) = expanded(groups, known.take());
    let weights = expansion.weights.clone();
    *known = Some((groups, expansion));
    Some(weights)
}

#[cfg(test)]
mod tests;
