//! The plans that need no file.

use std::{fmt, str::FromStr};

use super::{Plan, Protocol, Span, Step};
use crate::{desired::PatternShare, judge::Safe};

/// A plan that needs no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Four steps of 20 seconds: for showing only.
    Demo,
    /// Four steps of 5 minutes.
    Quick,
    /// Seven steps of 30 minutes, from 1 %.
    Careful,
    /// A day at 10 %, a day at 95 %.
    Day,
}

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

impl Preset {
    /// All of them, shortest first.
    pub const ALL: [Self; 4] = [Self::Demo, Self::Quick, Self::Careful, Self::Day];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Quick => "quick",
            Self::Careful => "careful",
            Self::Day => "day",
        }
    }

    /// Percent and seconds of each step, and the step (percent) at which "four times worse" must be excluded.
    const fn steps(self) -> (&'static [(u32, u64)], Option<u32>) {
        match self {
            Self::Demo => (&[(10, 20), (50, 20), (95, 20), (100, 20)], None),
            Self::Quick => (&[(10, 5 * MINUTE), (50, 5 * MINUTE), (95, 5 * MINUTE), (100, 5 * MINUTE)], None),
            Self::Careful => (
                &[
                    (1, 30 * MINUTE),
                    (5, 30 * MINUTE),
                    (10, 30 * MINUTE),
                    (25, 30 * MINUTE),
                    (50, 30 * MINUTE),
                    (95, 30 * MINUTE),
                    (100, 30 * MINUTE),
                ],
                Some(50),
            ),
            // Nothing is judged at 100 %: the last step only waits a little for reports.
            Self::Day => (&[(10, DAY), (95, DAY), (100, 5 * MINUTE)], Some(10)),
        }
    }

    /// The plan.
    pub fn plan(self, protocol: Protocol) -> Plan {
        let (steps, excludes) = self.steps();
        let step = |(percent, seconds): &(u32, u64)| {
            let share = PatternShare::from_thousandths(percent * 1000).unwrap_or(PatternShare::ALL);
            let must_exclude = (excludes == Some(*percent)).then_some(Safe::RATIO);
            Step { share, bake: Span::from_seconds(*seconds), approve: false, must_exclude }
        };
        Plan { steps: steps.iter().map(step).collect(), ..Plan::without_steps(protocol) }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = super::Problem;

    fn from_str(text: &str) -> Result<Self, super::Problem> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str);
            let what = format!("there is no plan `{}`", crate::model::Escaped(text));
            super::Problem::new(super::Place::Plan, what, super::problem::suggestion(text, &names))
        })
    }
}
