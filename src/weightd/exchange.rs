//! Which commands share a line, and whose answer each frame is. Pure.

use weightd_core::{
    backend::Why,
    model::BackendName,
    plan::{Change, Plan},
};

use super::reconciler::{Look, Reads};
use crate::haproxy::{Command, Line};

/// Whose answer a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Of `show info`.
    Info,
    /// The roles of this backend.
    Roles(BackendName),
    /// The servers of this backend.
    Servers(BackendName),
    /// To a weight of the plan with this number.
    Set(usize),
    /// The servers of the backend of the plan with this number: its read-back.
    ReadBack(usize),
}

/// A line and what its frames will be.
#[derive(Debug, Default)]
pub struct Exchange {
    /// What is sent.
    pub line: Line,
    /// What comes back, in order.
    pub expect: Vec<Expect>,
}

/// Lines under construction.
#[derive(Default)]
struct Packing {
    done: Vec<Exchange>,
    open: Exchange,
    /// Whether each line begins by asking which process answers.
    asks_who: bool,
}

impl Packing {
    /// Adds commands that must stand on one line. False if they do not even fit a line of their own.
    fn add(&mut self, commands: &[Command<'_>], expect: impl IntoIterator<Item = Expect>) -> bool {
        self.begin();
        if !self.open.line.try_push(commands) {
            if self.open.line.commands() > usize::from(self.asks_who) {
                self.done.push(std::mem::take(&mut self.open));
                self.begin();
            }
            if !self.open.line.try_push(commands) {
                return false;
            }
        }
        self.open.expect.extend(expect);
        true
    }

    fn begin(&mut self) {
        if self.asks_who && self.open.line.commands() == 0 {
            self.open.line.try_push(&[Command::ShowInfo]);
            self.open.expect.push(Expect::Info);
        }
    }

    fn finish(mut self) -> Vec<Exchange> {
        if self.open.line.commands() > 0 {
            self.done.push(self.open);
        }
        self.done
    }
}

/// What to send for reads: on each line which process answers, then the servers of the backends that are tracked, then
/// the roles or the servers of those to decide on.
pub fn reads(reads: &Reads) -> Vec<Exchange> {
    let mut packing = Packing { asks_who: true, ..Packing::default() };
    for name in &reads.tracked {
        packing.add(&[Command::ShowServersState(name)], [Expect::Servers(name.clone())]);
    }
    for Look { backend, roles } in &reads.looks {
        match *roles {
            Some(id) => packing.add(&[Command::ShowStat(id)], [Expect::Roles(backend.clone())]),
            None => packing.add(&[Command::ShowServersState(backend)], [Expect::Servers(backend.clone())]),
        };
    }
    packing.finish()
}

/// The first stage of each plan with its read-back. A stage stands on one line where it fits; one that does
/// not holds only raises or only decreases and may be spread over several.
pub fn writes(plans: &[(BackendName, Why, Plan)]) -> Vec<Exchange> {
    let mut packing = Packing::default();
    for (number, (backend, _, plan)) in plans.iter().enumerate() {
        let stage: &[Change] = plan.stages.first().map_or(&[], Vec::as_slice);
        let mut group: Vec<_> = stage.iter().map(|c| Command::SetWeight(backend, &c.server, c.to)).collect();
        let read_back = Command::ShowServersState(backend);
        group.push(read_back);
        let expect = |sets: usize| std::iter::repeat_n(Expect::Set(number), sets);
        if packing.add(&group, expect(stage.len()).chain([Expect::ReadBack(number)])) {
            continue;
        }
        for set in &group[..stage.len()] {
            packing.add(std::slice::from_ref(set), [Expect::Set(number)]);
        }
        packing.add(&[read_back], [Expect::ReadBack(number)]);
    }
    packing.finish()
}

#[cfg(test)]
mod tests {
    use weightd_core::model::{ServerName, Weight};

    use super::*;

    fn plan(servers: usize) -> Plan {
        let change = |n| Change {
            server: ServerName::new(&format!("server-{n}")).unwrap(),
            from: Weight::ZERO,
            to: Weight::MAX,
        };
        Plan { stages: vec![(0..servers).map(change).collect()], withheld: None }
    }

    fn backend(name: &str) -> BackendName {
        BackendName::new(name).unwrap()
    }

    #[test]
    fn one_change_is_one_line_that_sets_and_reads_back() {
        let exchanges = writes(&[(backend("app"), Why::Document, plan(2))]);
        assert_eq!(exchanges.len(), 1);
        assert_eq!(
            exchanges[0].line.wire(),
            "set server app/server-0 weight 256;set server app/server-1 weight 256;show servers state app\n"
        );
        assert_eq!(exchanges[0].expect, [Expect::Set(0), Expect::Set(0), Expect::ReadBack(0)]);
    }

    #[test]
    fn every_line_is_within_bounds_and_has_a_frame_for_each_command() {
        let plans: Vec<_> = [1, 300, 2, 90, 80].map(|n| (backend("some-backend"), Why::Drift, plan(n))).into();
        let exchanges = writes(&plans);
        assert!(exchanges.len() > 3);
        for Exchange { line, expect } in &exchanges {
            assert!(line.wire().len() <= Line::MAX_BYTES);
            assert_eq!(line.commands(), expect.len());
        }
        let all: Vec<_> = exchanges.iter().flat_map(|e| &e.expect).collect();
        for (number, (_, _, plan)) in plans.iter().enumerate() {
            let sets = all.iter().filter(|e| ***e == Expect::Set(number)).count();
            assert_eq!(sets, plan.stages[0].len());
            let last = all.iter().rposition(|e| **e == Expect::Set(number));
            assert!(all.iter().position(|e| **e == Expect::ReadBack(number)) > last, "read back after the last set");
        }
    }

    #[test]
    fn a_look_asks_for_the_process_first_and_for_roles_or_servers() {
        let looks = vec![Look { backend: backend("a"), roles: Some(3) }, Look { backend: backend("b"), roles: None }];
        let exchanges = reads(&Reads { tracked: vec![backend("t")], looks });
        assert_eq!(exchanges[0].line.wire(), "show info;show servers state t;show stat 3 6 -1;show servers state b\n");
    }
}
