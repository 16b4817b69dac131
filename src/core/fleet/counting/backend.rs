use std::collections::BTreeMap;

use super::{
    Levels, ProcessId, Reading, ServerReading, Wall,
    formula::Formula,
    view::{Increment, ViewCount},
};
use crate::{
    fleet::{
        View,
        counters::{Flag, Instance, Protocol, Sums},
    },
    model::ServerName,
};

/// One backend in one HAProxy, for all views that somebody observes.
#[derive(Debug, Default)]
pub struct BackendCount {
    current: Option<Process>,
    /// Processes that ended their service and still finish requests, while they are read to their end.
    leaving: Vec<Process>,
    last: Option<Reading>,
    views: Vec<ViewCount>,
}

/// What one process counted.
#[derive(Debug)]
struct Process {
    id: ProcessId,
    protocol: Protocol,
    servers: BTreeMap<ServerName, Formula>,
    unserved: Unserved,
    /// Once it leaves: requests in flight when its rest was read last, and where.
    in_flight: u64,
    sessions: Sessions,
}

/// The sessions of each server.
type Sessions = BTreeMap<ServerName, u64>;

/// The connection errors of a backend that are of none of its servers.
#[derive(Debug)]
struct Unserved {
    base: u64,
    most: u64,
    /// The errors of servers that were removed: they stay in the row of the backend.
    removed: u64,
}

impl Unserved {
    /// From this level on.
    const fn since(base: u64) -> Self {
        Self { base, most: 0, removed: 0 }
    }

    fn of(connect_errors: u64, servers: impl Iterator<Item = Levels>) -> u64 {
        connect_errors.saturating_sub(servers.map(|levels| levels.connect_errors).sum())
    }

    fn take(&mut self, level: u64) -> u64 {
        let now = level.saturating_sub(self.base + self.removed).max(self.most);
        now - std::mem::replace(&mut self.most, now)
    }
}

/// What a process that leaves has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// `econ` of the backend's own row.
    pub connect_errors: u64,
    /// As in [`Reading::unassigned`].
    pub unassigned: u64,
    /// The counters of its servers.
    pub servers: Vec<(ServerName, Levels)>,
}

impl BackendCount {
    /// Counts for these views from now on. One that is not among them any more is forgotten.
    pub fn set_views(&mut self, views: &[View]) {
        self.views.retain(|counted| views.contains(counted.view()));
        for view in views {
            if !self.views.iter().any(|counted| counted.view() == view) {
                self.views.push(ViewCount::new(view.clone()));
            }
        }
    }

    /// Takes a reading. `leaving` says whether a process that was replaced can still be read, see [`BackendCount::rest`];
    /// without that its last requests are lost, and the block is torn.
    pub fn take(&mut self, reading: Reading, at: Wall, leaving: bool) {
        let mut increment = Increment::default();
        if self.current.as_ref().is_some_and(|process| process.id != reading.process)
            && let Some(mut ended) = self.current.take()
        {
            let with_sessions = |server: &ServerReading| (server.now.name.clone(), server.levels.sessions);
            let sessions = self.last.iter().flat_map(|last| &last.servers).map(with_sessions);
            ended.sessions = sessions.filter(|(_, sessions)| *sessions > 0).collect();
            let preloaded = reading.servers.iter().any(|server| server.preloaded);
            // What HAProxy loaded at start was counted before: only a process that begins with 0 is counted from its start.
            self.current = Some(if preloaded { Process::since(&reading) } else { Process::from_zero(&reading) });
            increment.torn = preloaded || !leaving;
            if leaving {
                self.leaving.push(ended);
            } else {
                for view in &mut self.views {
                    view.cannot_read(ended.sessions.keys());
                }
            }
        }
        let process = self.current.get_or_insert_with(|| Process::since(&reading));
        process.take(&reading, self.last.as_ref(), &mut increment);
        increment.note_changes(self.last.as_ref(), &reading);
        for view in &mut self.views {
            view.take(&increment, &reading, at);
        }
        self.last = Some(reading);
    }

    /// The processes that leave and are read to their end, by their Pid.
    pub fn leaving(&self) -> impl Iterator<Item = u32> {
        self.leaving.iter().map(|process| process.id.pid)
    }

    /// Takes what a leaving process has counted so far.
    pub fn rest(&mut self, pid: u32, rest: &Rest) {
        let mut increment = Increment::default();
        for process in self.leaving.iter_mut().filter(|process| process.id.pid == pid) {
            process.take_rest(rest, &mut increment);
        }
        self.add(&increment);
    }

    /// A leaving process has ended. What was in flight when it was read last is lost, and everything since it was replaced
    /// if it was never read after that.
    pub fn ended(&mut self, pid: u32, was_read: bool) {
        let lost = self.leaving.iter().filter(|process| process.id.pid == pid).map(|process| process.in_flight).sum();
        self.leaving.retain(|process| process.id.pid != pid);
        self.add(&Increment { torn: !was_read, lost, ..Increment::default() });
    }

    fn add(&mut self, increment: &Increment) {
        for view in &mut self.views {
            view.add(increment);
        }
    }

    /// Whether it was read at least once.
    pub fn was_read(&self) -> bool {
        self.last.is_some()
    }

    /// Takes whether a side of `to` failed since this was asked last.
    pub fn take_failed(&mut self) -> bool {
        self.views.iter_mut().fold(false, |failed, view| view.take_failed() | failed)
    }

    /// Takes whether a block was closed since this was asked last.
    pub fn take_closed(&mut self) -> bool {
        self.views.iter_mut().fold(false, |closed, view| view.take_closed() | closed)
    }

    /// What is reported, for the HAProxy of this name. `down` says why it cannot be read just now.
    pub fn report(&self, name: &str, down: Option<&str>, at: Wall) -> Instance {
        let down = down.map(str::to_owned);
        let Some(last) = &self.last else {
            return Instance { down, ..Instance::unread(name) };
        };
        let mut flags = last.flags.clone();
        if last.sticky() {
            flags.push(Flag::Sticky);
        }
        let mut leaving = BTreeMap::new();
        for (server, sessions) in self.leaving.iter().flat_map(|process| &process.sessions) {
            *leaving.entry(server.clone()).or_default() += sessions;
        }
        Instance {
            down,
            version: last.version.clone(),
            pid: Some(last.process.pid),
            since: Some(last.process.since),
            mode: last.protocol,
            algorithm: last.algorithm.clone(),
            flags,
            servers: last.servers.iter().map(|server| server.now.clone()).collect(),
            views: self.views.iter().map(|view| view.report(last, &leaving, at)).collect(),
            ..Instance::unread(name)
        }
    }
}

impl Process {
    /// Counts from this reading on.
    fn since(reading: &Reading) -> Self {
        let of = |server: &ServerReading| (server.now.name.clone(), Formula::since(server.levels));
        let servers = reading.servers.iter().map(of).collect();
        let base = Unserved::of(reading.connect_errors, reading.servers.iter().map(|server| server.levels));
        let (id, protocol) = (reading.process, reading.protocol);
        Self { id, protocol, servers, unserved: Unserved::since(base), in_flight: 0, sessions: Sessions::new() }
    }

    /// Counts from the start of the process.
    fn from_zero(reading: &Reading) -> Self {
        let (id, protocol, servers) = (reading.process, reading.protocol, BTreeMap::new());
        Self { id, protocol, servers, unserved: Unserved::since(0), in_flight: 0, sessions: Sessions::new() }
    }

    fn take(&mut self, reading: &Reading, last: Option<&Reading>, increment: &mut Increment) {
        let same_process = last.is_some_and(|last| last.process == reading.process);
        let mut cleared = false;
        for ServerReading { now, levels, preloaded, .. } in &reading.servers {
            // A server that was added at runtime begins with 0.
            let new = || if *preloaded && !same_process { Formula::since(*levels) } else { Formula::from_zero() };
            let formula = self.servers.entry(now.name.clone()).or_insert_with(new);
            if let Ok(counted) = formula.take(*levels, reading.unassigned, reading.protocol) {
                increment.count(&now.name, counted);
            } else {
                *formula = Formula::since(*levels);
                cleared = true;
            }
        }
        // A server that is gone may come back with the same name and counters from 0.
        self.servers.retain(|name, _| reading.names().any(|found| found == name));
        let known = last.filter(|_| same_process).into_iter().flat_map(|last| &last.servers);
        let removed = known.filter(|server| reading.names().all(|name| *name != server.now.name));
        self.unserved.removed += removed.map(|server| server.levels.connect_errors).sum::<u64>();
        let level = Unserved::of(reading.connect_errors, reading.servers.iter().map(|server| server.levels));
        if cleared {
            increment.torn = true;
            self.unserved = Unserved::since(level);
        }
        increment.unserved += self.unserved.take(level);
    }

    fn take_rest(&mut self, rest: &Rest, increment: &mut Increment) {
        let sessions = rest.servers.iter().map(|(name, levels)| (name.clone(), levels.sessions));
        self.sessions = sessions.filter(|(_, sessions)| *sessions > 0).collect();
        self.in_flight = rest.unassigned + self.sessions.values().sum::<u64>();
        for (name, levels) in &rest.servers {
            if let Some(formula) = self.servers.get_mut(name) {
                // A process that leaves is no place to clear counters; if somebody does, its rest is lost.
                if let Ok(counted) = formula.take(*levels, rest.unassigned, self.protocol) {
                    increment.count(name, counted);
                } else {
                    *formula = Formula::since(*levels);
                    increment.torn = true;
                }
            }
        }
        let level = Unserved::of(rest.connect_errors, rest.servers.iter().map(|(_, levels)| *levels));
        increment.unserved += self.unserved.take(level);
    }
}

impl Increment {
    fn count(&mut self, server: &ServerName, counted: Sums) {
        if counted != Sums::default() {
            let sums = self.servers.entry(server.clone()).or_default();
            *sums = sums.plus(counted);
        }
    }
}

#[cfg(test)]
mod tests;
