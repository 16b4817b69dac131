//! Sends the plans of a batch, stage by stage. Each stage is read back before the next one is sent.

use std::sync::Arc;

use weightd_core::{
    backend::Cause,
    event::Event,
    model::{BackendName, Moment},
    observed::SetError,
    plan::Plan,
};

use super::{
    Phase, REREAD_DELAY, Session,
    exchange::{self, WriteExchanges, WriteFrame},
};
use crate::haproxy::{Answer, reply};

/// Maximum number of consecutive stages: two for a plan, and two more if HAProxy was reloaded in between. Further
/// reverts wait for the next reading, to avoid a write race.
const MAX_STAGES: usize = 4;

/// Plans in progress.
#[derive(Debug)]
pub(super) struct Applying {
    pub(super) plans: Vec<(BackendName, Cause, Plan)>,
    /// For each plan, the error of a weight that HAProxy rejected.
    pub(super) set_errors: Vec<Option<SetError>>,
    /// The next stages, in the order of their read-backs.
    pub(super) next: Vec<(BackendName, Cause, Plan)>,
    pub(super) stages: usize,
    pub(super) lines: WriteExchanges,
    pub(super) frames: Vec<WriteFrame>,
}

impl Applying {
    /// Whether a stage that is not sent yet is for a backend that `matches`.
    pub(super) fn has_pending(&self, matches: impl Fn(&BackendName) -> bool) -> bool {
        let pending = if self.lines.is_empty() { &self.next } else { &self.plans };
        pending.iter().any(|(name, ..)| matches(name))
    }

    pub(super) fn new(plans: Vec<(BackendName, Cause, Plan)>, stages: usize) -> Self {
        let lines = exchange::writes(&plans);
        Self { set_errors: vec![None; plans.len()], plans, next: Vec::new(), stages, lines, frames: Vec::new() }
    }
}

impl Session {
    pub(super) fn take_stage_answer(&mut self, mut applying: Applying, answer: &Answer, now: Moment) {
        for (text, frame) in answer.frames().zip(std::mem::take(&mut applying.frames)) {
            match frame {
                WriteFrame::Set(number) => {
                    if let Err(error) = reply::set_weight(text) {
                        applying.set_errors[number] = Some(error);
                    }
                }
                WriteFrame::ReadBack(number) => {
                    let (name, cause, plan) = &applying.plans[number];
                    self.observe(name, text, now);
                    let set_error = applying.set_errors[number].take();
                    let next = self.applied(name, *cause, plan, set_error, now);
                    applying.next.extend(next.map(|plan| (name.clone(), *cause, plan)));
                }
            }
        }
        self.phase = Phase::Applying(applying);
    }

    /// Discards the rest of the plans because a pause started between two lines. The backends are read and decided
    /// again.
    pub(super) fn abort(&mut self, applying: Applying) {
        let names = applying.plans.into_iter().chain(applying.next).map(|(name, ..)| name);
        for name in names {
            self.queue.push_urgent(name);
        }
    }

    /// Starts the next stage after the last answer of a stage, or ends the batch.
    pub(super) fn finish_stage(&mut self, applying: Applying, now: Moment) {
        if !applying.next.is_empty() && applying.stages < MAX_STAGES {
            self.phase = Phase::Applying(Applying::new(applying.next, applying.stages + 1));
        } else {
            self.backoff.reset();
            self.recover(now);
        }
    }

    /// Decides the plans of backends that were just read or that need no reading, and starts to send them.
    pub(super) fn decide(&mut self, batch: &[BackendName], now: Moment) {
        let plans = self.plans(batch, now);
        if plans.is_empty() {
            self.backoff.reset();
            self.recover(now);
        } else {
            self.phase = Phase::Applying(Applying::new(plans, 1));
        }
    }

    pub(super) fn plans(&mut self, batch: &[BackendName], now: Moment) -> Vec<(BackendName, Cause, Plan)> {
        let mut plans = Vec::new();
        self.queue.in_progress(0);
        for name in batch {
            let Some(backend) = self.backends.get_mut(name) else { continue };
            if backend.is_unchanged() && self.pauses.of(name).is_none() {
                if backend.is_split() {
                    self.queue.push_delayed(name, now + REREAD_DELAY);
                }
                continue;
            }
            self.unsaved.server_state = true;
            if self.pauses.of(name).is_some() {
                backend.observe_paused(name, now);
                self.report(name);
                continue;
            }
            let before = (backend.accepted.clone(), backend.not_accepted.is_some());
            let decided = backend.decide(name, now);
            // The weights of a split follow from the servers, which can change at any time.
            let reread = backend.awaits_health() || backend.is_split();
            if before != (backend.accepted.clone(), backend.not_accepted.is_some()) {
                self.mark_changed(name);
            }
            if reread {
                self.queue.push_delayed(name, now + REREAD_DELAY);
            }
            let Some(backend) = self.backends.get_mut(name) else { continue };
            match decided {
                Some((cause, plan)) if self.observe_only => {
                    if backend.observe_plan.as_ref() != Some(&plan) {
                        self.events.push(Event::WouldChange { backend: name.clone(), cause, plan: plan.clone() });
                        backend.observe_plan = Some(plan);
                    }
                    self.report(name);
                }
                Some((cause, plan)) => plans.push((name.clone(), cause, plan)),
                None => {
                    backend.observe_plan = None;
                    self.report(name);
                }
            }
        }
        plans
    }

    /// Records the result of one stage after its read-back. Returns the next stage if it may be sent.
    pub(super) fn applied(
        &mut self,
        name: &BackendName,
        cause: Cause,
        plan: &Plan,
        set_error: Option<SetError>,
        now: Moment,
    ) -> Option<Plan> {
        self.unsaved.server_state = true;
        let backend = self.backends.get_mut(name)?;
        let corrected = backend.drift_corrections;
        let sent = plan.stages.first().map_or(&[][..], Vec::as_slice);
        let (done, next) = backend.applied(name, cause, sent, set_error, now);
        let took = backend.take_arrival(cause).map(|arrived| now.since(arrived));
        self.drift_corrections += backend.drift_corrections - corrected;
        if let Some(accepted) = &backend.accepted {
            self.events.extend(done.into_iter().map(|change| Event::Changed {
                backend: name.clone(),
                owner: backend.observed.server(&change.server).and_then(|server| server.owner),
                change,
                cause,
                accepted: Arc::clone(accepted),
                took,
            }));
        }
        if cause == Cause::Drift {
            self.queue.push_delayed(name, now + REREAD_DELAY);
        }
        if next.is_none() {
            self.report(name);
        }
        next
    }
}
