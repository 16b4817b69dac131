//! Tracks whether HAProxy can be used: the process that answers, the level of its socket, and failures.

use weightd_core::{
    caveats,
    event::Event,
    model::{Escaped, Moment},
};

use super::{
    Phase, Session,
    process::{Identity, Process},
};
use crate::{
    base::chain::Chain,
    haproxy::{Answer, ExchangeError, Info, reply},
};

/// A state in which HAProxy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// The reason code.
    pub reason: &'static str,
    /// The explanation, one sentence.
    pub detail: String,
    /// How to fix it.
    pub remedy: &'static str,
    /// When it started.
    pub since: Moment,
    /// Whether HAProxy answered again. The state ends after the next successful reading or write.
    pub answered_since: bool,
}

impl Session {
    /// Identifies the process from an answer to `show info`. Returns whether the session may continue with it.
    pub(super) fn identify_process(&mut self, info: &Info, now: Moment) -> bool {
        match self.processes.identify(info, now) {
            Identity::Same => self.is_usable_process(now),
            Identity::New => {
                self.events.push(Event::Process { pid: info.pid, version: info.version.clone(), uptime: info.uptime });
                self.tracked.clear();
                for backend in self.backends.values_mut() {
                    backend.new_process();
                }
                // The log has these reasons once per process.
                for reasons in self.reported.values_mut() {
                    reasons.retain(|reason| !caveats::WORDS.contains(&&*reason.reason));
                }
                self.read_all_now();
                false
            }
            Identity::Old => {
                self.not_before = now + self.backoff.next();
                false
            }
            Identity::Alternating => {
                self.unusable(
                    "two_processes",
                    "two HAProxy processes answer alternately at this address, and each has its own weights".to_owned(),
                    "stop the process that should not run, such as an old one that a restart left behind, or give each process its own socket",
                    now,
                );
                false
            }
        }
    }

    /// Whether weightd can set weights in the current process.
    pub(super) fn is_usable_process(&mut self, now: Moment) -> bool {
        let Some(process) = &self.processes.current else { return true };
        let Some((reason, detail, remedy)) = unusable(process, self.observe_only) else { return true };
        self.unusable(reason, detail, remedy, now);
        false
    }

    pub(super) fn take_info(&mut self, answer: &Answer, now: Moment) {
        match reply::info(answer.frames().next().unwrap_or_default()) {
            Ok(info) => {
                let same = self.identify_process(&info, now);
                let current = self.processes.current.as_ref();
                let new = current.is_some_and(|process| process.level.is_empty());
                if let Some(down) = &mut self.down
                    && (same || new)
                    && !down.answered_since
                {
                    // HAProxy may have changed while it did not answer.
                    down.answered_since = true;
                    self.read_all_now();
                }
                if same {
                    self.recover(now);
                }
            }
            Err(bad) => self.not_haproxy(&bad, now),
        }
    }

    pub(super) fn take_process_details(&mut self, answer: &Answer, now: Moment) {
        let mut frames = answer.frames();
        let level = frames.next().unwrap_or_default().trim().to_owned();
        self.stick_tables = reply::stick_tables(frames.next().unwrap_or_default());
        if let Some(process) = &mut self.processes.current {
            process.level = if level.is_empty() { "unknown".to_owned() } else { level };
        }
        if self.is_usable_process(now) {
            self.recover(now);
        }
    }

    /// Handles an exchange without a usable answer. Any command of the line may have run or not.
    pub(super) fn exchange_failed(&mut self, phase: Phase, error: &ExchangeError, now: Moment) {
        if matches!(error, ExchangeError::TooLarge(_) | ExchangeError::Timeout(..)) {
            self.queue.answered(false);
        }
        match phase {
            Phase::Reading { batch, .. } => self.requeue(batch),
            // `take_info` starts a reading of all backends when HAProxy answers again.
            Phase::Applying(_) | Phase::Idle | Phase::Polling | Phase::Probing => {}
        }
        self.unusable(error.reason(), Chain(error).to_string(), error.remedy(), now);
    }

    pub(super) fn not_haproxy(&mut self, bad: &reply::BadReply, now: Moment) {
        const REMEDY: &str = "set `address` in [[haproxy]] to a `stats socket` of HAProxy; neither the master socket nor the socket of another program works";
        self.unusable("not_haproxy", format!("the answer is not from HAProxy: {bad}"), REMEDY, now);
    }

    /// Records why HAProxy cannot be used, and reports each reason once.
    pub(super) fn unusable(&mut self, reason: &'static str, detail: String, remedy: &'static str, now: Moment) {
        *self.errors.entry(reason).or_default() += 1;
        if self.down.as_ref().is_none_or(|down| down.reason != reason) {
            self.events.push(Event::Down { reason, detail: detail.clone(), remedy });
        }
        let since = self.down.as_ref().map_or(now, |down| down.since);
        self.down = Some(Down { reason, detail, remedy, since, answered_since: false });
        self.poll_at = now + self.backoff.next();
    }

    /// Ends the `Down` state if no urgent work is left.
    pub(super) fn recover(&mut self, now: Moment) {
        if self.queue.has_urgent() {
            return;
        }
        self.reconciled_once |= self.enforcing;
        if let Some(down) = self.down.take() {
            self.events.push(Event::Up { after: now.since(down.since) });
        }
    }
}

/// Why weightd cannot set weights in this process: reason code, explanation, fix. `None` if it can.
fn unusable(process: &Process, observe_only: bool) -> Option<(&'static str, String, &'static str)> {
    if process.processes > 1 {
        return Some((
            "nbproc",
            format!("HAProxy runs {} processes, but a socket reaches only one of them", process.processes),
            "replace `nbproc` with `nbthread` in haproxy.cfg",
        ));
    }
    (!matches!(process.level.as_str(), "admin" | "") && !observe_only).then(|| {
        (
            "not_admin",
            format!("the socket has level {}, but setting a weight needs level admin", Escaped(&process.level)),
            "add `level admin` to the `stats socket` line in haproxy.cfg and reload HAProxy",
        )
    })
}

#[cfg(test)]
mod tests;
