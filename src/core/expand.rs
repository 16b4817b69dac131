//! Expands a split: from shares of patterns to weights of the servers that one HAProxy has.
//!
//! Owns which servers count for a share. Must not do I/O. [`crate::apportion`] computes the numbers.
//!
//! Empty slots, servers in maintenance or drain, and backup servers get no share of the traffic, so they do not count. They
//! get the weight that fits the ratio of their group: a server that comes up must not serve with its configured weight
//! until the next reading. A server that is down counts: HAProxy gives its part to all other servers.

use crate::{
    apportion::{Side, apportion},
    desired::{Pattern, PatternShare, Split, Weights},
    model::{ServerName, Weight},
    observed::{Observed, Server},
};

/// Why a split does not fit the servers of one HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A server matches two patterns.
    #[error("server `{server}` matches two patterns of the split: `{one}` and `{other}`")]
    Overlap {
        /// The server.
        server: ServerName,
        /// The first pattern.
        one: Pattern,
        /// The second pattern.
        other: Pattern,
    },
    /// Patterns with a share above 0 match no server.
    #[error("this HAProxy has no server for {}", .0.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", "))]
    NoServer(Vec<Pattern>),
}

/// What an expansion depends on. Equal groups have equal weights, so that they are computed only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups(Vec<Group>);

/// The servers that one pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    pattern: Pattern,
    share: PatternShare,
    members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    server: ServerName,
    configured: Weight,
    counts: bool,
}

/// The weights of one HAProxy for a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Expansion {
    /// The weight of each server that matches a pattern.
    pub weights: Weights,
    /// The largest difference between a share and the wanted one, in percentage points.
    pub error: f64,
}

/// Whether a server counts for the share of its group.
fn counts(server: &Server) -> bool {
    !server.slot && !server.administered && !server.backup
}

impl Groups {
    /// Groups the servers of a backend by the patterns of a split.
    ///
    /// # Errors
    /// [`Misfit`] if a server matches two patterns, or a pattern with a share matches none.
    pub fn of(split: &Split, observed: &Observed) -> Result<Self, Misfit> {
        let groups = Self::matching(split, observed)?;
        groups.fit().map(|()| groups)
    }

    /// The same, also if a pattern with a share matches none.
    ///
    /// # Errors
    /// [`Misfit::Overlap`]
    pub fn matching(split: &Split, observed: &Observed) -> Result<Self, Misfit> {
        let group = |(pattern, share): (&Pattern, &PatternShare)| Group {
            pattern: pattern.clone(),
            share: *share,
            members: Vec::new(),
        };
        let mut groups: Vec<Group> = split.shares().iter().map(group).collect();
        for server in &observed.servers {
            let mut matching = groups.iter_mut().filter(|group| group.pattern.matches(server.name.as_str()));
            let Some(group) = matching.next() else { continue };
            if let Some(other) = matching.next() {
                let (one, other) = (group.pattern.clone(), other.pattern.clone());
                return Err(Misfit::Overlap { server: server.name.clone(), one, other });
            }
            let member = Member { server: server.name.clone(), configured: server.initial, counts: counts(server) };
            group.members.push(member);
        }
        Ok(Self(groups))
    }

    /// Whether each pattern with a share matches a server.
    ///
    /// # Errors
    /// [`Misfit::NoServer`]
    pub fn fit(&self) -> Result<(), Misfit> {
        let without = self.0.iter().filter(|group| group.members.is_empty() && group.share > PatternShare::default());
        let without: Vec<Pattern> = without.map(|group| group.pattern.clone()).collect();
        if without.is_empty() { Ok(()) } else { Err(Misfit::NoServer(without)) }
    }

    /// The weights of the servers that `weights` does not name, in the ratio of the named ones in their group.
    pub fn additions(&self, weights: &Weights) -> Weights {
        let mut additions = Weights::new();
        for group in &self.0 {
            let named = group.members.iter().filter_map(|member| Some((member, *weights.get(&member.server)?)));
            let scale = Scale::of(named);
            let unnamed = group.members.iter().filter(|member| !weights.contains_key(&member.server));
            additions.extend(unnamed.map(|member| (member.server.clone(), scale.weight(member))));
        }
        additions
    }

    /// Computes the weights.
    pub fn expand(&self) -> Expansion {
        let sides: Vec<Side> = self.0.iter().map(Group::side).collect();
        let mut weights = Weights::new();
        // None is impossible: the shares add up to 100, and each group with a share has a server.
        let apportioned = apportion(&sides);
        let error = apportioned.as_ref().map_or(0.0, |apportioned| apportioned.share_error);
        for (group, counted) in self.0.iter().zip(apportioned.into_iter().flat_map(|all| all.weights)) {
            let members = group.members.iter().filter(|member| group.is_counted(member));
            let scale = Scale::of(members.zip(counted.iter().copied()));
            let mut counted = counted.into_iter();
            for member in &group.members {
                let weight = if group.is_counted(member) { counted.next() } else { Some(scale.weight(member)) };
                weights.extend(weight.map(|weight| (member.server.clone(), weight)));
            }
        }
        Expansion { weights, error }
    }
}

/// The weight for the configured weight of a server in a group.
struct Scale {
    /// The sum of the weights of the servers that count.
    weights: u64,
    /// The sum of their configured weights; if that is 0, their number.
    configured: u64,
    /// Whether each server gets the same.
    equal: bool,
}

impl Scale {
    /// The ratio of these servers to their weights.
    fn of<'a>(members: impl Iterator<Item = (&'a Member, Weight)>) -> Self {
        let (mut weights, mut configured, mut number) = (0, 0, 0);
        for (member, weight) in members {
            weights += u64::from(weight.get());
            configured += u64::from(member.configured.get());
            number += 1;
        }
        let equal = configured == 0;
        Self { weights, configured: if equal { number } else { configured }, equal }
    }

    /// The weight that fits the ratio, rounded: at least 1 if the server has a part of a group with a share.
    fn weight(&self, member: &Member) -> Weight {
        let part = if self.equal { 1 } else { u64::from(member.configured.get()) };
        if self.weights == 0 || part == 0 || self.configured == 0 {
            return Weight::ZERO;
        }
        let weight = (self.weights * part + self.configured / 2) / self.configured;
        Weight::new(weight.max(1)).unwrap_or(Weight::MAX)
    }
}

impl Group {
    /// Whether a server counts. In a group that gets no traffic now all count, so that their weights are right when they
    /// come back.
    fn is_counted(&self, member: &Member) -> bool {
        member.counts || self.members.iter().all(|member| !member.counts)
    }

    fn side(&self) -> Side {
        let counted = self.members.iter().filter(|member| self.is_counted(member));
        Side { share: self.share, ratio: counted.map(|member| u32::from(member.configured.get())).collect() }
    }
}

/// Expands a split over the servers of one HAProxy.
///
/// # Errors
/// [`Misfit`], as [`Groups::of`].
pub fn expand(split: &Split, observed: &Observed) -> Result<Expansion, Misfit> {
    Ok(Groups::of(split, observed)?.expand())
}

#[cfg(test)]
pub(crate) mod tests;
