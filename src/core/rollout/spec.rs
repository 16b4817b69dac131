//! The value of `rollouts/spec/<b>`: what a rollout is. People write it; it never changes while the rollout runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    keys::MAX_SPEC,
    plan::{Mode, OnRegression, Plan},
    stored::{self, BadValue, is_id},
};
use crate::{
    desired::{Desired, Pattern, PatternShare, Split},
    model::{ServerName, Timestamp},
};

/// What a rollout is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Its identifier, random.
    pub id: String,
    /// The new side. At least one pattern.
    pub to: Vec<Pattern>,
    /// The old side. At least one pattern; none overlaps one of `to`.
    pub from: Vec<Pattern>,
    /// The share of `to` at the start, to which it goes back.
    pub back: PatternShare,
    /// What it may do at the start.
    pub mode: Mode,
    /// The plan, complete.
    pub plan: Plan,
    /// What a verdict by evidence does on this backend.
    pub regression: OnRegression,
    /// Who started it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Spec {
    /// The most patterns of a side.
    pub const MAX_PATTERNS: usize = 64;

    /// Reads the value of a key.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read; a spec that contradicts itself is malformed.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        let spec: Self = stored::read(value, MAX_SPEC)?;
        spec.check().map_err(|what| BadValue::Malformed(what.to_owned()))?;
        Ok(spec)
    }

    /// The value of the key.
    ///
    /// # Errors
    /// [`BadValue`] if it contradicts itself or is too large, so that no controller could read it.
    pub fn to_value(&self) -> Result<Vec<u8>, BadValue> {
        let value = stored::write(self);
        Self::parse(&value)?;
        Ok(value)
    }

    fn check(&self) -> Result<(), &'static str> {
        let sides = [&self.to, &self.from];
        let overlap = || self.to.iter().any(|to| self.from.iter().any(|from| to.overlaps(from)));
        match () {
            () if !is_id(&self.id) => Err("`id` is not an identifier"),
            () if sides.iter().any(|side| side.is_empty()) => Err("a side has no pattern"),
            () if sides.iter().any(|side| side.len() > Self::MAX_PATTERNS) => Err("a side has more than 64 patterns"),
            () if overlap() => Err("the sides overlap"),
            () if self.mode == Mode::Auto && self.next_step(self.back).is_none() => {
                Err("mode auto has no step above the share at the start")
            }
            () if self.mode == Mode::Auto && self.plan.is_blind() => {
                Err("mode auto has no check that sees failed answers of this protocol")
            }
            () => Ok(()),
        }
    }

    /// The position of the first step above a share, counted from 1. None if there is none.
    pub fn next_step(&self, share: PatternShare) -> Option<u32> {
        let at = self.plan.steps.iter().position(|step| step.share > share)?;
        u32::try_from(at + 1).ok()
    }

    /// A step of the plan, counted from 1.
    pub fn step(&self, step: u32) -> Option<&super::plan::Step> {
        let at = usize::try_from(step).ok()?.checked_sub(1)?;
        self.plan.steps.get(at)
    }

    /// The document for a share of `to`: `{from: 100 − share, to: share}`. The patterns of a side get equal parts.
    ///
    /// # Errors
    /// A sentence; no valid spec has this.
    pub fn split(&self, share: PatternShare) -> Result<Split, &'static str> {
        split_of(&self.to, &self.from, share)
    }

    /// The share of `to` in a split, by the patterns; none if it is no split of the two sides.
    pub fn share_of(&self, split: &Split) -> Option<PatternShare> {
        let to = self.to.iter().map(|pattern| split.shares().get(pattern).copied());
        let share = to.sum::<Option<Sum>>()?;
        let share = PatternShare::from_thousandths(share.0)?;
        (self.split(share).ok()? == *split).then_some(share)
    }
}

/// The document that gives `to` a share. The patterns of a side get equal parts.
pub(super) fn split_of(to: &[Pattern], from: &[Pattern], share: PatternShare) -> Result<Split, &'static str> {
    let all = PatternShare::ALL.thousandths();
    let to = parts(to, share.thousandths());
    let from = parts(from, all - share.thousandths());
    let shares = to.chain(from).filter_map(|(pattern, part)| Some((pattern, PatternShare::from_thousandths(part)?)));
    Split::new(shares.collect::<BTreeMap<_, _>>())
}

/// The share of `to` among both sides in a document; none where neither has a share. What else the document has does not
/// count: a rollout moves shares between its sides only.
pub(super) fn share_in(to: &[Pattern], from: &[Pattern], desired: &Desired) -> Option<PatternShare> {
    let sum = |side: &[Pattern]| -> u64 {
        if let Some(split) = &desired.split {
            let overlaps = |pattern: &Pattern| side.iter().any(|one| one.overlaps(pattern));
            let of = split.shares().iter().filter(|(pattern, _)| overlaps(pattern));
            of.map(|(_, share)| u64::from(share.thousandths())).sum()
        } else {
            let is_on = |server: &ServerName| side.iter().any(|pattern| pattern.matches(server.as_str()));
            let of = desired.weights.iter().filter(|(server, _)| is_on(server));
            of.map(|(_, weight)| u64::from(weight.get())).sum()
        }
    };
    let (to, all) = (sum(to), sum(to) + sum(from));
    let share = (to * u64::from(PatternShare::ALL.thousandths()) + all / 2).checked_div(all)?;
    PatternShare::from_thousandths(u32::try_from(share).ok()?)
}

/// The parts of a side, in thousandths: equal but for what rounding leaves, which the first ones get.
fn parts(side: &[Pattern], thousandths: u32) -> impl Iterator<Item = (Pattern, u32)> {
    let count = u32::try_from(side.len()).unwrap_or(u32::MAX).max(1);
    let (part, more) = (thousandths / count, thousandths % count);
    side.iter().zip(0_u32..).map(move |(pattern, at)| (pattern.clone(), part + u32::from(at < more)))
}

/// A sum of shares.
struct Sum(u32);

impl std::iter::Sum<PatternShare> for Sum {
    fn sum<I: Iterator<Item = PatternShare>>(shares: I) -> Self {
        Self(shares.fold(0, |sum, share| sum.saturating_add(share.thousandths())))
    }
}
