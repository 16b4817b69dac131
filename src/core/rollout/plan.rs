//! Plans: the steps of a rollout, the checks that judge it, and when it may move.
//!
//! A plan is written as TOML and stored in the spec as JSON, both in the same shape. [`PlanFile`] is what was written,
//! [`Plan`] what is valid and complete.

mod check;
mod file;
mod presets;
mod problem;
mod sight;
mod span;
mod window;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

pub use self::{
    check::{MAX_CHECKS, MAX_STEPS},
    file::{CheckFile, OnFile, PlanFile, StepFile, WindowFile},
    presets::Preset,
    problem::{Place, Problem},
    sight::{Sight, StepSight, Traffic, requests_reachable, sight},
    span::{InvalidSpan, Span},
    window::{InvalidRange, LocalTime, Range},
};
use crate::{
    desired::PatternShare,
    judge::{self, BLOCK_SECONDS, ERRORS, GUARD_HORIZON, Limits, Safe},
};

/// A valid plan. Its JSON is that of a [`PlanFile`] with everything written out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "PlanFile")]
pub struct Plan {
    /// What the rollout may do; none if the person who starts it must say.
    pub mode: Option<Mode>,
    /// What the backend speaks.
    pub protocol: Protocol,
    /// The steps, in order. None in a plan for `watch` or `guard`.
    pub steps: Vec<Step>,
    /// The limits of the check `errors`.
    pub errors: Limits,
    /// All other checks that HAProxy's own counters feed.
    pub counted: BTreeMap<String, Limits>,
    /// The checks that a metrics system feeds.
    pub named: BTreeMap<String, NamedCheck>,
    /// When the share may grow; none: always.
    pub window: Option<Window>,
    /// What a verdict by evidence does; none: the default of the backend.
    pub regression: Option<OnRegression>,
}

/// What a rollout may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// People move the share; it judges and only tells.
    Watch,
    /// People move the share; it takes it back.
    Guard,
    /// It moves the share and takes it back.
    Auto,
}

impl Mode {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Guard => "guard",
            Self::Auto => "auto",
        }
    }
}

/// What a backend speaks, as far as the judge is concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HAProxy sees each answer.
    #[default]
    Http,
    /// HAProxy sees no failed answer: errors are in the trailer.
    Grpc,
    /// HAProxy sees connections only.
    Tcp,
}

impl Protocol {
    /// Whether HAProxy sees failed answers. If not, mode auto needs a named check.
    pub const fn shows_failures(self) -> bool {
        matches!(self, Self::Http)
    }
}

/// One raise of the share, and the bake after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The share of `to`.
    pub share: PatternShare,
    /// How long it is judged, in good seconds.
    pub bake: Span,
    /// Whether a person must approve it before.
    pub approve: bool,
    /// The next step waits until "so many times worse" is excluded; none: it does not wait for that.
    pub must_exclude: Option<f64>,
}

/// A check of the controller's configuration, chosen and limited by a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedCheck {
    /// The name in the configuration of the controller.
    pub uses: String,
    /// Values of labels, for the query.
    pub labels: BTreeMap<String, String>,
    /// The limits.
    pub limits: Limits,
    /// After each raise the check has no data for so long.
    pub warm_up: Span,
}

/// When the share may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The ranges; at least one.
    pub allow: Vec<Range>,
    /// The name of the time zone, such as `Europe/Paris`.
    pub timezone: String,
}

impl Window {
    /// Whether the share may grow at this time, which is local to [`Window::timezone`].
    pub fn is_open(&self, local: LocalTime) -> bool {
        self.allow.iter().any(|range| range.contains(local))
    }
}

/// What a verdict by evidence does. HARD, SEVERE and HANG always take `to` back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRegression {
    /// Take `to` back.
    Rollback,
    /// Stop and call a person: the default where users are pinned to sides.
    Hold,
}

impl Plan {
    /// A plan without steps: for `watch` and `guard`.
    pub fn without_steps(protocol: Protocol) -> Self {
        Self {
            mode: None,
            protocol,
            steps: Vec::new(),
            errors: Limits::ERRORS,
            counted: file::default_checks(protocol),
            named: BTreeMap::new(),
            window: None,
            regression: None,
        }
    }

    /// The sum of all bakes.
    pub fn total_bake(&self) -> Span {
        Span::from_seconds(self.steps.iter().map(|step| step.bake.seconds()).sum())
    }

    /// The judge of a rollout that starts in this mode. Its checks and its length are fixed from then on.
    pub fn judge(&self, mode: Mode) -> judge::Plan {
        let (horizon, steps) = match (mode, self.steps.len()) {
            (Mode::Auto, 1..) => {
                let blocks = (2 * self.total_bake().seconds()).div_ceil(BLOCK_SECONDS).max(1);
                (u32::try_from(blocks).unwrap_or(u32::MAX), u32::try_from(self.steps.len()).unwrap_or(u32::MAX))
            }
            _ => (GUARD_HORIZON, 0),
        };
        let named = self.named.iter().map(|(name, check)| (name.clone(), check.limits));
        let others = self.counted.clone().into_iter().chain(named).collect();
        let safe_ratio = self.steps.iter().find_map(|step| step.must_exclude).unwrap_or(Safe::RATIO);
        judge::Plan { horizon, steps, errors: self.errors, others, safe_ratio }
    }

    /// Whether nothing in the plan sees failed answers, so that mode auto would be blind: neither HAProxy nor a named check.
    pub fn is_blind(&self) -> bool {
        !self.protocol.shows_failures() && self.named.is_empty()
    }

    /// The names of all checks, `errors` first.
    pub fn check_names(&self) -> impl Iterator<Item = &str> {
        let others = self.counted.keys().chain(self.named.keys()).map(String::as_str);
        std::iter::once(ERRORS).chain(others)
    }
}

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PlanFile::deserialize(deserializer)?.resolve().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
