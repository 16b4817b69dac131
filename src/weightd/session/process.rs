//! Identifies the HAProxy process that answers. No I/O, no clock.
//!
//! Each reload starts a new process at the same address. The old process can still answer while it stops, and then
//! reports that it is stopping. Two processes that keep answering alternately are an error: no reading is reliable
//! then.

use std::time::Duration;

use weightd_core::model::Moment;

use crate::haproxy::Info;

/// Two processes share one address if the previous process answers again this often within [`ALTERNATION_WINDOW`].
const MAX_ALTERNATIONS: usize = 3;
/// See [`MAX_ALTERNATIONS`].
const ALTERNATION_WINDOW: Duration = Duration::from_secs(60);
/// After this many consecutive answers, a process is considered the only one.
const SOLE_ANSWERS: usize = 20;

/// One HAProxy process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Uptime at the last answer, in seconds.
    pub uptime: u64,
    /// The HAProxy version.
    pub version: String,
    /// The level of the socket; weightd needs `admin`. Empty before the answer to `show cli level`.
    pub level: String,
    /// Number of processes of this HAProxy: 1, more with `nbproc`.
    pub processes: u32,
}

impl Process {
    /// Whether an answer comes from this process. A HAProxy without CPU time for long corrects its clock and can look
    /// like a new process. That costs one more reading; a missed new process would leave wrong weights.
    fn answers(&self, info: &Info) -> bool {
        self.pid == info.pid && self.uptime <= info.uptime
    }
}

/// The process that an answer to `show info` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The current process.
    Same,
    /// A new process: all weights are the configured ones.
    New,
    /// An old process that stops after a reload. Its answers are ignored.
    Old,
    /// Two processes answer alternately at the same address.
    Alternating,
}

/// The processes that answered.
#[derive(Debug, Default)]
pub struct Processes {
    /// The current process.
    pub current: Option<Process>,
    /// Number of processes that answered since weightd started.
    pub seen: u64,
    /// The process before the current one.
    previous: Option<Process>,
    /// When the previous process answered after the current one, the last [`MAX_ALTERNATIONS`] times.
    alternations: Vec<Moment>,
    /// Whether the last answer came from the previous process.
    previous_answered: bool,
    /// Number of consecutive answers from the same process.
    consecutive: usize,
}

impl Processes {
    /// Identifies the process that an answer comes from.
    pub fn identify(&mut self, info: &Info, now: Moment) -> Identity {
        if info.stopping {
            return Identity::Old;
        }
        let answered = |process: &mut Option<Process>| {
            let process = process.as_mut().filter(|process| process.answers(info));
            process.map(|process| process.uptime = info.uptime).is_some()
        };
        if answered(&mut self.current) {
            self.count(false, now);
            return if self.is_alternating(now) { Identity::Alternating } else { Identity::Same };
        }
        if answered(&mut self.previous) {
            self.count(true, now);
            if self.consecutive < SOLE_ANSWERS {
                return if self.is_alternating(now) { Identity::Alternating } else { Identity::Old };
            }
        }
        self.alternations.clear();
        (self.previous_answered, self.consecutive) = (false, 0);
        self.seen += 1;
        self.previous = self.current.replace(Process {
            pid: info.pid,
            uptime: info.uptime,
            version: info.version.clone(),
            level: String::new(),
            processes: info.processes,
        });
        Identity::New
    }

    /// Counts an answer of the current or the previous process.
    fn count(&mut self, previous: bool, now: Moment) {
        if self.previous_answered == previous {
            self.consecutive += 1;
        } else {
            self.consecutive = 1;
        }
        if previous && !self.previous_answered {
            self.alternations.push(now);
            self.alternations.drain(..self.alternations.len().saturating_sub(MAX_ALTERNATIONS));
        }
        self.previous_answered = previous;
        if self.consecutive >= SOLE_ANSWERS {
            self.alternations.clear();
        }
    }

    /// Whether two processes answered alternately within the last [`ALTERNATION_WINDOW`].
    fn is_alternating(&self, now: Moment) -> bool {
        self.alternations.len() >= MAX_ALTERNATIONS
            && self.alternations.iter().all(|at| now.since(*at) <= ALTERNATION_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(pid: u32, uptime: u64) -> Info {
        Info { version: "3".into(), pid, uptime, stopping: false, processes: 1 }
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_process_is_its_pid_and_an_uptime_that_does_not_go_back() {
        let mut processes = Processes::default();
        assert_eq!(processes.identify(&info(7, 5), at(0)), Identity::New);
        assert_eq!(processes.identify(&info(7, 5), at(0)), Identity::Same);
        assert_eq!(processes.identify(&info(7, 6), at(1)), Identity::Same);
        assert_eq!(processes.identify(&info(8, 0), at(2)), Identity::New);
        assert_eq!(processes.identify(&Info { stopping: true, ..info(7, 8) }, at(2)), Identity::Old);
        assert_eq!(processes.identify(&info(8, 1), at(3)), Identity::Same);
        // In a container, each process has the same process id.
        assert_eq!(processes.identify(&info(8, 0), at(4)), Identity::New);
        assert_eq!(processes.seen, 3);
    }

    #[test]
    fn alternating_processes_are_detected_until_one_of_them_is_gone() {
        let mut processes = Processes::default();
        let mut identities = Vec::new();
        for turn in 0..12 {
            identities.push(processes.identify(&info(7 + turn % 2, 100), at(u64::from(turn))));
        }
        let new = identities.iter().filter(|identity| **identity == Identity::New).count();
        assert_eq!(new, 2, "each process is new only once: {identities:?}");
        assert_eq!(identities.last(), Some(&Identity::Alternating), "{identities:?}");
        let sole: Vec<_> = (0..SOLE_ANSWERS).map(|_| processes.identify(&info(8, 100), at(12))).collect();
        assert_eq!(sole[0], Identity::Alternating);
        assert_eq!(sole.last(), Some(&Identity::Same), "the other one is gone: {sole:?}");
    }

    #[test]
    fn a_previous_process_that_keeps_answering_becomes_the_current_one() {
        let mut processes = Processes::default();
        processes.identify(&info(7, 5), at(0));
        processes.identify(&info(8, 0), at(1));
        let identities: Vec<_> = (0..SOLE_ANSWERS).map(|_| processes.identify(&info(7, 9), at(2))).collect();
        assert!(identities[..SOLE_ANSWERS - 1].iter().all(|identity| *identity == Identity::Old), "{identities:?}");
        assert_eq!(identities[SOLE_ANSWERS - 1], Identity::New);
    }
}
