//! A plan as it is written. Unknown keys are errors; everything else is checked by [`PlanFile::resolve`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Mode, NamedCheck, OnRegression, Plan, Protocol, Range, Span, Step};
use crate::{
    desired::PatternShare,
    judge::{ERRORS, Limits},
};

/// A plan as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanFile {
    /// `watch`, `guard` or `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// `http`, `grpc` or `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// `[[step]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<StepFile>,
    /// `[check.<name>]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub check: BTreeMap<String, CheckFile>,
    /// `[window]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowFile>,
    /// `[on]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<OnFile>,
}

/// `[[step]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepFile {
    /// Percent of the requests to `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<PatternShare>,
    /// How long it is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake: Option<Span>,
    /// Wait for a person before this step.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approve: bool,
    /// Do not go on before "so many times worse" is excluded; 0 turns it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub must_exclude: Option<f64>,
}

/// `[check.<name>]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckFile {
    /// More than this times the rate of `from` is a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Below this rate nobody cares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// The rate that users were promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<f64>,
    /// Blocks of 10 s that one burst may last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Percent: above this share of `to` the check has no data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_share: Option<f64>,
    /// A named check of the controller.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// Values of labels for the named check.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// No data for so long after each raise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Span>,
}

/// `[window]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowFile {
    /// When the share may grow.
    pub allow: Vec<Range>,
    /// The time zone of `allow`.
    pub timezone: Option<String>,
}

/// `[on]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnFile {
    /// What a verdict by evidence does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regression: Option<OnRegression>,
}

/// The checks beside `errors` that HAProxy's counters feed.
pub(super) fn default_checks(protocol: Protocol) -> BTreeMap<String, Limits> {
    let mut checks = Limits::default_others();
    checks.retain(|name, _| protocol == Protocol::Http || name == "masked");
    checks
}

impl CheckFile {
    /// The limits, with those of a default check where nothing is written.
    pub(super) fn limits(&self, default: Limits) -> Limits {
        Limits {
            ratio: self.ratio.unwrap_or(default.ratio),
            floor: self.floor.unwrap_or(default.floor),
            slo: self.slo.or(default.slo),
            burst: self.burst.unwrap_or(default.burst),
            max_share: self.max_share.unwrap_or(default.max_share),
        }
    }

    fn of(limits: &Limits) -> Self {
        Self {
            ratio: Some(limits.ratio),
            floor: Some(limits.floor),
            slo: limits.slo,
            burst: Some(limits.burst),
            max_share: (limits.max_share < 100.0).then_some(limits.max_share),
            ..Self::default()
        }
    }
}

impl From<&NamedCheck> for CheckFile {
    fn from(check: &NamedCheck) -> Self {
        Self {
            uses: Some(check.uses.clone()),
            labels: check.labels.clone(),
            warm_up: Some(check.warm_up),
            ..Self::of(&check.limits)
        }
    }
}

impl From<&Step> for StepFile {
    fn from(step: &Step) -> Self {
        Self {
            share: Some(step.share),
            bake: Some(step.bake),
            approve: step.approve,
            must_exclude: Some(step.must_exclude.unwrap_or(0.0)),
        }
    }
}

impl From<Plan> for PlanFile {
    fn from(plan: Plan) -> Self {
        let Plan { mode, protocol, steps, errors, counted, named, window, regression } = plan;
        let counted = counted.iter().map(|(name, limits)| (name.clone(), CheckFile::of(limits)));
        let named = named.iter().map(|(name, check)| (name.clone(), CheckFile::from(check)));
        let errors = std::iter::once((ERRORS.to_owned(), CheckFile::of(&errors)));
        Self {
            mode,
            protocol: Some(protocol),
            step: steps.iter().map(StepFile::from).collect(),
            check: errors.chain(counted).chain(named).collect(),
            window: window.map(|window| WindowFile { allow: window.allow, timezone: Some(window.timezone) }),
            on: regression.map(|regression| OnFile { regression: Some(regression) }),
        }
    }
}
