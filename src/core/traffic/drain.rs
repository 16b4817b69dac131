use std::{collections::VecDeque, fmt, time::Duration};

use super::{Collector, Source};
use crate::{
    fleet::{
        NodeName,
        counters::{Flag, Instance, Protocol},
    },
    model::Moment,
};

/// The longest time in seconds between the end of a block and its arrival here.
const PUBLISHED: f64 = 3.0;

/// What keeps users or sessions on a server whose weight is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    /// A cookie: its users come back to the server.
    Cookie,
    /// A stick table, if it has `stick` rules.
    StickTable,
    /// Rules such as `use-server`.
    Sticky,
    /// Connections of mode tcp, which last until one end closes them.
    Connections,
}

impl Pin {
    /// What pins users in this backend, as far as HAProxy says.
    pub(super) fn of(instance: &Instance) -> Vec<Self> {
        let has = |flag: Flag| instance.flags.contains(&flag);
        let pins = [
            (has(Flag::Cookie), Self::Cookie),
            (has(Flag::StickTable), Self::StickTable),
            (has(Flag::Sticky), Self::Sticky),
            (instance.mode == Protocol::Tcp, Self::Connections),
        ];
        pins.into_iter().filter(|(there, _)| *there).map(|(_, pin)| pin).collect()
    }

    /// A word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::StickTable => "stick_table",
            Self::Sticky => "sticky",
            Self::Connections => "connections",
        }
    }

    /// Whether users can come back to a server without any session.
    const fn brings_back(self) -> bool {
        !matches!(self, Self::Connections)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cookie => "a cookie pins users, also at weight 0",
            Self::StickTable => "the stick table pins users if it has `stick` rules, also at weight 0",
            Self::Sticky => "rules such as `use-server` send users, also at weight 0",
            Self::Connections => "connections of mode tcp last until one end closes them",
        })
    }
}

/// Sessions that are left on the servers whose weight is 0, on one HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its node.
    pub node: NodeName,
    /// Its name.
    pub instance: String,
    /// The sessions; none where they are not known.
    pub sessions: Option<u64>,
    /// Whether a process of HAProxy that was replaced may have some, and cannot be read.
    pub unread: bool,
    /// Whether requests still arrive there, though no session is left: pinned users.
    pub used: bool,
    /// Whether it is known that nothing is left: no session, and where something pins users, no request in a whole block.
    pub done: bool,
}

/// Follows the sessions on servers of weight 0.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// How many sessions there were, and when.
    samples: VecDeque<(Moment, u64)>,
}

impl Collector {
    /// What is left on the servers that `at_zero` names, on each HAProxy. Numbers from before `since` do not count: the
    /// weights were other ones.
    pub fn left(&self, at_zero: &dyn Fn(&str) -> bool, since: Moment, now: Moment) -> Vec<Left> {
        let left = |((node, instance), source): (&(NodeName, String), &Source)| {
            let (sessions, used) = of(source, at_zero, since, now);
            let unread = source.now.iter().any(|(row, now)| now.unread && at_zero(row));
            let sessions = sessions.filter(|_| !unread);
            let pinned = source.pins.iter().any(|pin| pin.brings_back());
            let done = sessions == Some(0) && (!pinned || used == Some(false));
            Left { node: node.clone(), instance: instance.clone(), sessions, unread, used: used == Some(true), done }
        };
        self.sources.iter().map(left).collect()
    }

    /// What pins users, on any HAProxy.
    pub fn pins(&self) -> Vec<Pin> {
        let mut pins: Vec<_> = self.sources.values().flat_map(|source| source.pins.iter().copied()).collect();
        pins.sort_unstable();
        pins.dedup();
        pins
    }
}

/// The sessions, and whether a request began in the last block; none where that is not known.
fn of(source: &Source, at_zero: &dyn Fn(&str) -> bool, since: Moment, now: Moment) -> (Option<u64>, Option<bool>) {
    let (window, Some(current)) = (source.window(now), source.current(now)) else { return (None, None) };
    let rows = current.iter().filter(|(row, _)| at_zero(row));
    let sessions = rows.map(|(_, now)| now.sessions).sum();
    // The block must have begun after the weights were 0.
    let whole = |window: &&super::Window| source.closed.since(since).as_secs_f64() > window.seconds + PUBLISHED;
    let used = window.ok().filter(whole).map(|window| {
        let mut rows = window.rows.iter().filter(|(row, _)| at_zero(row));
        rows.any(|(_, sums)| sums.started > 0 || sums.attempts > 0)
    });
    (Some(sessions), used)
}

impl Drain {
    /// The time that an estimate looks back.
    const WINDOW: Duration = Duration::from_secs(60);

    /// Takes the sessions of now.
    pub fn take(&mut self, now: Moment, sessions: u64) {
        self.samples.push_back((now, sessions));
        while self.samples.front().is_some_and(|(at, _)| now.since(*at) > Self::WINDOW) {
            self.samples.pop_front();
        }
    }

    /// How long the sessions will last, if they go on to end as fast as in the last minute; none where they do not become
    /// fewer, or too little time has passed.
    #[expect(clippy::cast_precision_loss, reason = "counts of sessions")]
    pub fn estimate(&self) -> Option<Duration> {
        let ((start, before), (end, left)) = (self.samples.front()?, self.samples.back()?);
        if *left == 0 {
            return Some(Duration::ZERO);
        }
        let elapsed = end.since(*start);
        let ended = before.checked_sub(*left).filter(|ended| *ended > 0)?;
        if elapsed < Duration::from_secs(5) {
            return None;
        }
        Duration::try_from_secs_f64(*left as f64 * elapsed.as_secs_f64() / ended as f64).ok()
    }
}
