//! Groups commands into lines, and names the expected frames of each answer. No I/O.

use std::collections::VecDeque;

use weightd_core::{
    backend::Cause,
    model::BackendName,
    plan::{Change, Plan},
};

use crate::haproxy::{Query, ReadLine, SetWeight, WriteLine};

/// The queries of one round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Backends with servers that servers of the batch track. They come first, whether managed or not.
    pub tracked: Vec<BackendName>,
    /// The backends of the batch.
    pub backends: Vec<BackendRead>,
}

/// One backend to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendRead {
    /// The backend.
    pub backend: BackendName,
    /// The id of the backend in this process if the query is for its roles; `None` if it is for its servers. Roles are
    /// read once per process, after the servers.
    pub roles: Option<u32>,
}

/// The content of one frame in the answer to a [`ReadLine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFrame {
    /// The answer to `show info`.
    Info,
    /// The roles of this backend.
    Roles(BackendName),
    /// The servers of this backend.
    Servers(BackendName),
}

/// The content of one frame in the answer to a [`WriteLine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFrame {
    /// The result of one `set server` command of the plan with this number.
    Set(usize),
    /// The read-back of the plan with this number: the servers of its backend.
    ReadBack(usize),
}

/// A line and the expected frames of its answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exchange<L, F> {
    /// The line to send.
    pub line: L,
    /// The expected frames, in order.
    pub frames: Vec<F>,
}

/// Lines of reads.
pub type ReadExchanges = VecDeque<Exchange<ReadLine, ReadFrame>>;
/// Lines that set weights.
pub type WriteExchanges = VecDeque<Exchange<WriteLine, WriteFrame>>;

/// Returns the lines for these queries. Each line starts with `show info`, to identify the process. The tracked
/// backends follow, then the roles or the servers of the batch.
pub fn reads(reads: &Reads) -> ReadExchanges {
    let tracked = reads.tracked.iter().map(|name| (Query::ShowServersState(name), ReadFrame::Servers(name.clone())));
    let backends = reads.backends.iter().map(|BackendRead { backend, roles }| match *roles {
        Some(id) => (Query::ShowStat(id), ReadFrame::Roles(backend.clone())),
        None => (Query::ShowServersState(backend), ReadFrame::Servers(backend.clone())),
    });
    let mut lines = ReadExchanges::new();
    for (query, frame) in tracked.chain(backends) {
        let fits = lines.back_mut().is_some_and(|open| open.line.try_push(query));
        if !fits {
            let mut line = ReadLine::of([Query::ShowInfo]);
            // Two names of maximum length are far shorter than a line.
            let fits = line.try_push(query);
            debug_assert!(fits, "a line takes one command beside `show info`");
            lines.push_back(Exchange { line, frames: vec![ReadFrame::Info] });
        }
        if let Some(open) = lines.back_mut() {
            open.frames.push(frame);
        }
    }
    lines
}

/// Returns the lines for the first stage of each plan, with the read-back. A stage is on one line if it fits. A longer
/// stage contains only raises or only decreases, so that it can be split over several lines.
pub fn writes(plans: &[(BackendName, Cause, Plan)]) -> WriteExchanges {
    let mut lines = WriteExchanges::new();
    for (number, (backend, _, plan)) in plans.iter().enumerate() {
        let stage: &[Change] = plan.stages.first().map_or(&[], Vec::as_slice);
        let sets: Vec<_> =
            stage.iter().map(|change| SetWeight { backend, server: &change.server, weight: change.to }).collect();
        let whole = |line: &mut WriteLine| line.try_push_with_read_back(&sets, backend);
        let frames = std::iter::repeat_n(WriteFrame::Set(number), sets.len()).chain([WriteFrame::ReadBack(number)]);
        if push(&mut lines, frames, whole) {
            continue;
        }
        for set in &sets {
            push(&mut lines, [WriteFrame::Set(number)], |line| line.try_push(*set));
        }
        push(&mut lines, [WriteFrame::ReadBack(number)], |line| line.try_push_read_back(backend));
    }
    lines
}

/// Adds commands to the last line or to a new one. Returns false if they do not fit on one line.
fn push(
    lines: &mut WriteExchanges,
    frames: impl IntoIterator<Item = WriteFrame>,
    add: impl Fn(&mut WriteLine) -> bool,
) -> bool {
    let added = lines.back_mut().is_some_and(|open| add(&mut open.line));
    if !added {
        let mut line = WriteLine::default();
        if !add(&mut line) {
            return false;
        }
        lines.push_back(Exchange { line, frames: Vec::new() });
    }
    if let Some(open) = lines.back_mut() {
        open.frames.extend(frames);
    }
    true
}

#[cfg(test)]
mod tests {
    use weightd_core::model::{ServerName, Weight};

    use super::*;
    use crate::haproxy::Line;

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
        let exchanges = writes(&[(backend("app"), Cause::Document, plan(2))]);
        assert_eq!(exchanges.len(), 1);
        assert_eq!(
            exchanges[0].line.line().wire(),
            "set server app/server-0 weight 256;set server app/server-1 weight 256;show servers state app\n"
        );
        assert_eq!(exchanges[0].frames, [WriteFrame::Set(0), WriteFrame::Set(0), WriteFrame::ReadBack(0)]);
    }

    #[test]
    fn every_line_is_within_bounds_and_has_a_frame_for_each_command() {
        let plans: Vec<_> = [1, 300, 2, 90, 80].map(|n| (backend("some-backend"), Cause::Drift, plan(n))).into();
        let exchanges = writes(&plans);
        assert!(exchanges.len() > 3);
        for Exchange { line, frames } in &exchanges {
            assert!(line.line().wire().len() <= Line::MAX_BYTES);
            assert_eq!(line.line().commands(), frames.len());
        }
        let all: Vec<_> = exchanges.iter().flat_map(|e| &e.frames).collect();
        for (number, (_, _, plan)) in plans.iter().enumerate() {
            let sets = all.iter().filter(|e| ***e == WriteFrame::Set(number)).count();
            assert_eq!(sets, plan.stages[0].len());
            let last = all.iter().rposition(|e| **e == WriteFrame::Set(number));
            let read_back = all.iter().position(|e| **e == WriteFrame::ReadBack(number));
            assert!(read_back > last, "read back after the last set");
        }
    }

    #[test]
    fn each_line_of_queries_starts_with_show_info() {
        let backends = vec![
            BackendRead { backend: backend("a"), roles: Some(3) },
            BackendRead { backend: backend("b"), roles: None },
        ];
        let exchanges = reads(&Reads { tracked: vec![backend("t")], backends });
        let wire = exchanges[0].line.line().wire();
        assert_eq!(wire, "show info;show servers state t;show stat 3 6 -1;show servers state b\n");
        let backends = (0..500).map(|n| BackendRead { backend: backend(&format!("backend-{n}")), roles: None });
        let exchanges = reads(&Reads { tracked: Vec::new(), backends: backends.collect() });
        assert!(exchanges.len() > 1);
        for Exchange { line, frames } in &exchanges {
            let wire = line.line().wire();
            assert!(wire.starts_with("show info;") && wire.len() <= Line::MAX_BYTES, "{wire}");
            assert_eq!((line.line().commands(), &frames[0]), (frames.len(), &ReadFrame::Info));
        }
    }
}
