//! The expansion of a split for the servers of this HAProxy.

use std::sync::Arc;

use super::Backend;
use crate::{
    desired::Desired,
    expand::{Expansion, Groups, Misfit},
};

impl Backend {
    /// Expands the desired split over the observed servers. Nothing changes for a document that names weights.
    pub(super) fn expand(&mut self) -> Result<(), Misfit> {
        let Some(desired) = &self.desired else { return Ok(()) };
        let Some(split) = &desired.split else {
            self.expanded = None;
            return Ok(());
        };
        let groups = Groups::of(split, &self.observed)?;
        // Most readings show the same servers.
        let known = self.expanded.take().filter(|(known, _)| *known == groups).map(|(_, expansion)| expansion);
        let expansion = known.unwrap_or_else(|| groups.expand());
        if desired.weights != expansion.weights {
            self.desired = Some(Arc::new(Desired { weights: expansion.weights.clone(), ..Desired::clone(desired) }));
        }
        self.expanded = Some((groups, expansion));
        Ok(())
    }

    /// Whether the weights follow from the servers that this HAProxy has, so that it is read once a second.
    pub fn is_split(&self) -> bool {
        let splits = |desired: &Option<Arc<Desired>>| desired.as_ref().is_some_and(|desired| desired.split.is_some());
        splits(&self.desired) || splits(&self.accepted)
    }

    /// The expansion of the accepted split; none for a document that names weights, and until a reading.
    pub fn expansion(&self) -> Option<&Expansion> {
        let (_, expansion) = self.expanded.as_ref()?;
        self.accepted.as_ref().filter(|accepted| accepted.weights == expansion.weights).map(|_| expansion)
    }
}

#[cfg(test)]
mod tests;
