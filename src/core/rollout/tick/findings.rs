//! Failures of `to`: what the rules and the evidence found, and what follows.

use super::decide::{TELL_SECONDS, back, latch};
use crate::{
    judge::{THRESHOLD, Trip, Verdict},
    rollout::{
        Action, Event, EventKind, Latch, Mode, Now, Observations, Phase, Rollout, memory::Pending, plan::OnRegression,
        windows::Found,
    },
};

/// The transition that a failure of `to` causes.
pub(super) fn find(rollout: &mut Rollout, seen: &Observations, now: Now, actions: &mut Vec<Action>) -> Option<Pending> {
    if !rollout.state.phase.is_moving() {
        return None;
    }
    let found = windows(rollout, now);
    let verdict = rollout.judge.verdict(rollout.memory.control);
    // Nothing is taken back where `to` has no more than at the start.
    let may_act = rollout.state.mode != Mode::Watch && rollout.state.share > rollout.state.back;
    let rule = found.as_ref().filter(|found| found.trip == Trip::Rollback);
    if let Some(found) = rule {
        let why = sentence(found);
        if may_act {
            return Some(back(rollout, seen, now, &why));
        }
        tell_once(rollout, now, found.rule.as_str(), why, actions);
    }
    let evidence = rollout.evidence_line();
    match verdict {
        Verdict::Rollback if may_act && rollout.spec.regression == OnRegression::Rollback => {
            return Some(back(rollout, seen, now, &format!("{}: {evidence}", worse(rollout))));
        }
        Verdict::Rollback if may_act => return latch(rollout, now, Latch::Regression, &evidence),
        Verdict::Rollback => tell_once(rollout, now, "regression", evidence, actions),
        Verdict::Hold if rollout.judge.is_slo_alone() => {
            let detail = format!("the SLO is broken, and it is not clear that the new side is the cause: {evidence}");
            if rollout.state.mode != Mode::Watch {
                return latch(rollout, now, Latch::Slo, &detail);
            }
            tell_once(rollout, now, "slo", detail, actions);
        }
        Verdict::Hold => no_control(rollout, now, now.wall.seconds(), "evidence", &evidence, actions),
        Verdict::Ok | Verdict::Grey => {}
    }
    if let Some(found) = found.filter(|found| found.trip == Trip::Hold) {
        no_control(rollout, now, found.at, found.rule.as_str(), &sentence(&found), actions);
    }
    None
}

/// In a rollout that ended: people are told, and nothing follows.
pub(super) fn tell(rollout: &mut Rollout, now: Now, actions: &mut Vec<Action>) {
    if rollout.state.phase == Phase::RolledBack {
        return;
    }
    if let Some(found) = windows(rollout, now) {
        tell_once(rollout, now, found.rule.as_str(), sentence(&found), actions);
    }
}

/// What a verdict found. A broken SLO needs less evidence against `to` than a regression, so it is named.
fn worse(rollout: &Rollout) -> String {
    let broken: Vec<_> = rollout.judge.broken_by_to().map(|name| format!("`{name}`")).collect();
    if rollout.judge.total() >= THRESHOLD || broken.is_empty() {
        return "the new side is worse".to_owned();
    }
    format!("the new side is worse and breaks the SLO of {}", broken.join(", "))
}

fn windows(rollout: &Rollout, now: Now) -> Option<Found> {
    let share = rollout.state.share.percent();
    rollout.memory.windows.find(rollout.memory.raised_at, share, rollout.redirects_up_to(), now.wall.seconds())
}

fn sentence(found: &Found) -> String {
    let (rule, check) = (found.rule.as_str(), found.check);
    let control = match found.trip {
        Trip::Rollback => "and the old side does not",
        Trip::Hold => "and the old side has too few requests to compare",
    };
    let skew = if check == "refused" { "; are the versions of pages and assets mixed?" } else { "" };
    format!("{rule} ({check}): the new side fails, {control}{skew}")
}

/// Without a control nothing moves by itself: it holds until 300 s after the last failure.
fn no_control(rollout: &mut Rollout, now: Now, at: u64, word: &'static str, detail: &str, actions: &mut Vec<Action>) {
    let memory = &mut rollout.memory;
    memory.no_control_until = memory.no_control_until.max(at + TELL_SECONDS);
    memory.no_control = memory.no_control_until > now.wall.seconds();
    tell_once(rollout, now, word, format!("{detail}; there is no control"), actions);
}

/// The same failure is told once in 300 s.
fn tell_once(rollout: &mut Rollout, now: Now, word: &'static str, detail: String, actions: &mut Vec<Action>) {
    let told = rollout.memory.told.get(word);
    if told.is_none_or(|at| now.moment.since(*at).as_secs() >= TELL_SECONDS) {
        rollout.memory.told.insert(word, now.moment);
        actions.push(Action::Tell(Event::new(EventKind::Warned, detail)));
    }
}
