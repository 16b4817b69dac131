//! Vanished leaves: an absent leaf is not an instruction.

use std::{collections::BTreeSet, sync::Arc};

use crate::{desired::Desired, model::ServerName};

/// Merges the `leaves` with the accepted weights of vanished leaves, and returns the servers of those. A vanished leaf
/// keeps its accepted weight: a deleted leaf and a leaf that an ACL hides cannot be distinguished.
pub(super) fn with_vanished(leaves: &Arc<Desired>, accepted: Option<&Desired>) -> (Arc<Desired>, BTreeSet<ServerName>) {
    let before = accepted.iter().flat_map(|accepted| &accepted.weights);
    let vanished: BTreeSet<ServerName> =
        before.map(|(server, _)| server).filter(|server| !leaves.weights.contains_key(*server)).cloned().collect();
    let Some(accepted) = accepted.filter(|_| !vanished.is_empty()) else { return (Arc::clone(leaves), vanished) };
    let mut desired = Desired::clone(leaves);
    let kept = accepted.weights.iter().filter(|(server, _)| vanished.contains(*server));
    desired.weights.extend(kept.map(|(server, weight)| (server.clone(), *weight)));
    (Arc::new(desired), vanished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    fn desired(index: u64, weights: &[(&str, u64)]) -> Arc<Desired> {
        let weights = weights.iter().map(|(s, w)| (ServerName::new(s).unwrap(), Weight::new(*w).unwrap()));
        Arc::new(Desired { weights: weights.collect(), index, ..Desired::default() })
    }

    #[test]
    fn a_vanished_leaf_keeps_its_weight_and_a_new_leaf_is_added() {
        let accepted = desired(7, &[("blue", 0), ("green", 100)]);
        let (now, vanished) = with_vanished(&desired(9, &[("green", 90), ("red", 5)]), Some(&accepted));
        assert_eq!(now, desired(9, &[("blue", 0), ("green", 90), ("red", 5)]));
        assert_eq!(vanished.iter().map(ServerName::as_str).collect::<Vec<_>>(), ["blue"]);
    }

    #[test]
    fn without_a_vanished_leaf_the_leaves_are_unchanged() {
        let leaves = desired(9, &[("blue", 1), ("green", 2)]);
        for accepted in [None, Some(desired(7, &[("blue", 5)]))] {
            let (now, vanished) = with_vanished(&leaves, accepted.as_deref());
            assert!(Arc::ptr_eq(&now, &leaves) && vanished.is_empty());
        }
    }
}
