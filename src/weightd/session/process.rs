//! Which HAProxy process answers. No I/O, no clock.
//!
//! Every reload brings a new process at the same address. While the old one ends it may still answer, and then it says
//! that it is stopping. Two processes that both stay and answer in turn are an error that no reading can be trusted after.

use std::time::Duration;

use weightd_core::model::Moment;

use crate::haproxy::Info;

/// A former process that comes back this often within [`WINDOW`] means that two processes share one address.
const TURNS: usize = 3;
/// See [`TURNS`].
const WINDOW: Duration = Duration::from_secs(60);
/// A process that answers this often without a break is the only one that is left.
const ALONE: usize = 20;

/// The HAProxy process that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its Pid.
    pub pid: u32,
    /// Its uptime when it last answered, in seconds.
    pub uptime: u64,
    /// Its version.
    pub version: String,
    /// What its socket permits: `admin` is needed. Empty until it was asked.
    pub level: String,
    /// How many processes share the configuration: 1, except with `nbproc`.
    pub processes: u32,
}

impl Process {
    /// Whether an answer comes from it. A HAProxy that got no processor time for long corrects its clock, which may look
    /// like a new process: reading everything once more is harmless, missing a new process is not.
    fn answers(&self, info: &Info) -> bool {
        self.pid == info.pid && self.uptime <= info.uptime
    }
}

/// What an answer of `show info` says about the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// It is the known one.
    Same,
    /// It is a new one: all weights are the configured ones again.
    New,
    /// It is an old one that is about to end after a reload: its answers do not count.
    Old,
    /// Two processes answer in turn at the same address.
    Alternating,
}

/// The processes that have answered.
#[derive(Debug, Default)]
pub struct Processes {
    /// The one that answers now.
    pub current: Option<Process>,
    /// How many have answered since weightd started.
    pub seen: u64,
    /// The one that was replaced last.
    former: Option<Process>,
    /// When it answered again after the current one had answered, the last [`TURNS`] times.
    turns: Vec<Moment>,
    /// Whether the last answer came from the former one.
    former_answered: bool,
    /// How often the same one answered without a break.
    in_a_row: usize,
}

impl Processes {
    /// Finds out which process an answer comes from.
    pub fn meet(&mut self, info: &Info, now: Moment) -> Identity {
        if info.stopping {
            return Identity::Old;
        }
        let answered = |process: &mut Option<Process>| {
            let process = process.as_mut().filter(|process| process.answers(info));
            process.map(|process| process.uptime = info.uptime).is_some()
        };
        if answered(&mut self.current) {
            self.count(false, now);
            return if self.alternate(now) { Identity::Alternating } else { Identity::Same };
        }
        if answered(&mut self.former) {
            self.count(true, now);
            if self.in_a_row < ALONE {
                return if self.alternate(now) { Identity::Alternating } else { Identity::Old };
            }
        }
        self.turns.clear();
        (self.former_answered, self.in_a_row) = (false, 0);
        self.seen += 1;
        self.former = self.current.replace(Process {
            pid: info.pid,
            uptime: info.uptime,
            version: info.version.clone(),
            level: String::new(),
            processes: info.processes,
        });
        Identity::New
    }

    /// Counts an answer of the current or the former process.
    fn count(&mut self, former: bool, now: Moment) {
        if self.former_answered == former {
            self.in_a_row += 1;
        } else {
            self.in_a_row = 1;
        }
        if former && !self.former_answered {
            self.turns.push(now);
            self.turns.drain(..self.turns.len().saturating_sub(TURNS));
        }
        self.former_answered = former;
        if self.in_a_row >= ALONE {
            self.turns.clear();
        }
    }

    /// Whether two processes took turns until a moment ago.
    fn alternate(&self, now: Moment) -> bool {
        self.turns.len() >= TURNS && self.turns.iter().all(|at| now.since(*at) <= WINDOW)
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
        assert_eq!(processes.meet(&info(7, 5), at(0)), Identity::New);
        assert_eq!(processes.meet(&info(7, 5), at(0)), Identity::Same);
        assert_eq!(processes.meet(&info(7, 6), at(1)), Identity::Same);
        assert_eq!(processes.meet(&info(8, 0), at(2)), Identity::New);
        assert_eq!(processes.meet(&Info { stopping: true, ..info(7, 8) }, at(2)), Identity::Old);
        assert_eq!(processes.meet(&info(8, 1), at(3)), Identity::Same);
        // In a container the Pid is always the same.
        assert_eq!(processes.meet(&info(8, 0), at(4)), Identity::New);
        assert_eq!(processes.seen, 3);
    }

    #[test]
    fn two_processes_that_take_turns_are_noticed_and_so_is_the_end_of_it() {
        let mut processes = Processes::default();
        let mut met = Vec::new();
        for turn in 0..12 {
            met.push(processes.meet(&info(7 + turn % 2, 100), at(u64::from(turn))));
        }
        let new = met.iter().filter(|identity| **identity == Identity::New).count();
        assert_eq!(new, 2, "none is taken for new again and again: {met:?}");
        assert_eq!(met.last(), Some(&Identity::Alternating), "{met:?}");
        let alone: Vec<_> = (0..ALONE).map(|_| processes.meet(&info(8, 100), at(12))).collect();
        assert_eq!(alone[0], Identity::Alternating);
        assert_eq!(alone.last(), Some(&Identity::Same), "the other one is gone: {alone:?}");
    }

    #[test]
    fn a_former_process_that_stays_is_the_one_that_counts() {
        let mut processes = Processes::default();
        processes.meet(&info(7, 5), at(0));
        processes.meet(&info(8, 0), at(1));
        let met: Vec<_> = (0..ALONE).map(|_| processes.meet(&info(7, 9), at(2))).collect();
        assert!(met[..ALONE - 1].iter().all(|identity| *identity == Identity::Old), "{met:?}");
        assert_eq!(met[ALONE - 1], Identity::New);
    }
}
