//! What somebody asked of a rollout, and no controller has answered.

use weightd_core::{
    model::Timestamp,
    rollout::{Request, Verb},
};

use super::{facts::Facts, words::when};

/// A controller that leads answers earlier, in seconds.
const ANSWERS: u64 = 5;

/// A request that no controller has answered, as sentences.
pub fn asked(request: &Request, now: Timestamp) -> String {
    let what = match &request.verb {
        Verb::Pause => "to pause it".to_owned(),
        Verb::Resume => "to resume it".to_owned(),
        Verb::Promote => "to end the bake".to_owned(),
        Verb::Approve => "to approve the next step".to_owned(),
        Verb::Mode { mode } => format!("for mode {}", mode.as_str()),
        Verb::Abort { wrote: true } => "to roll it back, and wrote the weights".to_owned(),
        Verb::Abort { wrote: false } => "to end it".to_owned(),
    };
    let at = request.when.map(|at| format!(" at {}", when(at, now))).unwrap_or_default();
    format!("{} asked{at} {what}. No controller has answered.", request.by)
}

/// The same of the rollout of an application, once a controller that leads would have answered; empty if there is none.
pub fn unanswered(facts: &Facts, now: Timestamp) -> String {
    let request = facts.rollout.as_ref().and_then(|rollout| rollout.request.as_ref());
    let is_late = |request: &&Request| request.when.is_none_or(|at| now.seconds() >= at.seconds() + ANSWERS);
    request.filter(is_late).map(|request| asked(request, now)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
