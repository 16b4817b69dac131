//! Whether HAProxy can be used: which process answers, what its socket permits, and what happens when it fails.

use weightd_core::{
    caveats,
    event::Event,
    model::{Escaped, Moment},
};

use super::{
    Dialogue, Session,
    process::{Identity, Process},
};
use crate::{
    base::chain::Chain,
    haproxy::{Answer, ExchangeError, Info, reply},
};

/// Why HAProxy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// A short word.
    pub reason: &'static str,
    /// A sentence.
    pub detail: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Since when.
    pub since: Moment,
    /// Whether it has answered since: work that succeeds ends this.
    pub trying: bool,
}

impl Session {
    /// Whether the answer to a question which process answers permits to go on.
    pub(super) fn met(&mut self, info: &Info, now: Moment) -> bool {
        match self.processes.meet(info, now) {
            Identity::Same => self.is_usable_process(now),
            Identity::New => {
                self.events.push(Event::Process { pid: info.pid, version: info.version.clone(), uptime: info.uptime });
                self.tracked.clear();
                for backend in self.backends.values_mut() {
                    backend.new_process();
                }
                // These are reported once per process.
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
                    "two HAProxy processes answer in turn at this address, each with its own weights".to_owned(),
                    "end the one that is left over, such as a former process that was not stopped, or give each its own socket",
                    now,
                );
                false
            }
        }
    }

    /// Whether weights can be set in the process that answers.
    pub(super) fn is_usable_process(&mut self, now: Moment) -> bool {
        let Some(process) = &self.processes.current else { return true };
        let Some((reason, detail, remedy)) = unusable(process, self.observe_only) else { return true };
        self.unusable(reason, detail, remedy, now);
        false
    }

    pub(super) fn polled(&mut self, answer: &Answer, now: Moment) {
        match reply::info(answer.frames().next().unwrap_or_default()) {
            Ok(info) => {
                let same = self.met(&info, now);
                let current = self.processes.current.as_ref();
                let new = current.is_some_and(|process| process.level.is_empty());
                if let Some(down) = &mut self.down
                    && (same || new)
                    && !down.trying
                {
                    // HAProxy was away: a change of it may have been missed.
                    down.trying = true;
                    self.read_all_now();
                }
                if same {
                    self.recover(now);
                }
            }
            Err(bad) => self.not_haproxy(&bad, now),
        }
    }

    pub(super) fn greeted(&mut self, answer: &Answer, now: Moment) {
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

    /// No usable answer: nothing is known about what of the line ran.
    pub(super) fn failed(&mut self, dialogue: Dialogue, error: &ExchangeError, now: Moment) {
        if matches!(error, ExchangeError::TooLarge(_) | ExchangeError::Timeout(..)) {
            self.queue.answered(false);
        }
        match dialogue {
            Dialogue::Reading { batch, .. } => self.put_back(batch),
            // What ran is unknown; everything is read again once HAProxy answers.
            Dialogue::Applying(_) | Dialogue::Idle | Dialogue::Polling | Dialogue::Greeting => {}
        }
        self.unusable(error.reason(), Chain(error).to_string(), error.remedy(), now);
    }

    pub(super) fn not_haproxy(&mut self, bad: &reply::BadReply, now: Moment) {
        const REMEDY: &str = "check that `address` in [[haproxy]] is a `stats socket` of HAProxy and not its master socket or another program";
        self.unusable("not_haproxy", format!("the answer is not HAProxy's: {bad}"), REMEDY, now);
    }

    /// Takes note of why HAProxy cannot be used; reports it once.
    pub(super) fn unusable(&mut self, reason: &'static str, detail: String, remedy: &'static str, now: Moment) {
        *self.errors.entry(reason).or_default() += 1;
        if self.down.as_ref().is_none_or(|down| down.reason != reason) {
            self.events.push(Event::Down { reason, detail: detail.clone(), remedy });
        }
        let since = self.down.as_ref().map_or(now, |down| down.since);
        self.down = Some(Down { reason, detail, remedy, since, trying: false });
        self.poll_at = now + self.backoff.next();
    }

    /// HAProxy is up again once it answers and nothing urgent is left.
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

/// Why weights cannot be set in a process that answers: a word, a sentence, what to do.
fn unusable(process: &Process, observe_only: bool) -> Option<(&'static str, String, &'static str)> {
    if process.processes > 1 {
        return Some((
            "nbproc",
            format!("HAProxy runs {} processes, and a socket belongs to one of them only", process.processes),
            "use `nbthread` in place of `nbproc` in haproxy.cfg",
        ));
    }
    (!matches!(process.level.as_str(), "admin" | "") && !observe_only).then(|| {
        (
            "not_admin",
            format!("the socket's level is {}, setting a weight needs admin", Escaped(&process.level)),
            "add `level admin` to the `stats socket` line in haproxy.cfg and reload HAProxy",
        )
    })
}

#[cfg(test)]
mod tests;
