//! A session with models of HAProxy and Consul, and a clock that the test moves.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weightd_core::{
    backend::Cause,
    desired::{Decoder, Entry},
    event::Event,
    model::{BackendName, Moment, Weight},
    pauses::{Ended, Pause, Scope},
    stored::Stored,
};

use super::super::{Session, Step, Timing};
use crate::haproxy::{Answer, ExchangeError};

#[expect(unreachable_pub, reason = "the integration tests include this module as well")]
#[path = "../../../../tests/it/fakes/model.rs"]
pub(crate) mod model;

pub(crate) use model::Model;

/// Maximum number of consecutive steps without a wait: far more than any test needs.
const MAX_STEPS: usize = 10_000;

/// A session with its models and its clock.
pub(crate) struct Rig {
    pub(crate) session: Session,
    pub(crate) haproxy: Model,
    pub(crate) now: Moment,
    /// Every event, taken from the session after each step.
    pub(crate) events: Vec<Event>,
    decoder: Decoder,
    index: u64,
}

impl Rig {
    /// Creates a session in mode enforce without any reading.
    pub(crate) fn new(haproxy: Model) -> Self {
        Self::with(haproxy, Stored::default(), false)
    }

    /// Creates a session with a stored state.
    pub(crate) fn with(haproxy: Model, stored: Stored, observe_only: bool) -> Self {
        let timing = Timing { resync: Duration::from_secs(10), process_poll: Duration::from_secs(1) };
        let session = Session::new(stored, observe_only, timing, Moment::default());
        let decoder = Decoder::new("w/");
        Self { session, haproxy, now: Moment::default(), events: Vec::new(), decoder, index: 0 }
    }

    /// Creates a session that converged: all weights of HAProxy match Consul.
    pub(crate) fn settled(haproxy: Model, documents: &[(&str, &str)]) -> Self {
        let mut rig = Self::new(haproxy);
        rig.publish(documents);
        rig.run();
        assert!(rig.session.converged());
        rig.haproxy.lines.clear();
        rig.events.clear();
        rig
    }

    /// Replaces all keys below the prefix in Consul. Each publish has a new index.
    pub(crate) fn publish(&mut self, keys: &[(&str, &str)]) {
        self.index += 1;
        let entry = |(key, value): &(&str, &str)| Entry {
            key: format!("w/{key}").into(),
            value: Some(STANDARD.encode(value).into()),
            modify_index: self.index,
        };
        let entries: Vec<_> = keys.iter().map(entry).collect();
        let state = self.decoder.decode(&entries).unwrap();
        self.session.set_desired(&state, self.now);
    }

    /// Executes one step. Returns the moment to wait for, or `None` if another step follows at once.
    pub(crate) fn step(&mut self) -> Option<Moment> {
        let step = self.session.next(self.now);
        let (wire, commands) = match &step {
            Step::Ask(line) => (line.line().wire(), line.line().commands()),
            Step::Send(line) => (line.line().wire(), line.line().commands()),
            Step::Wait(until) => return Some(*until),
        };
        let answer = Answer::parse(self.haproxy.answer(&wire), commands).unwrap();
        self.session.answer(Ok(answer), self.now);
        self.events.extend(self.session.take_events());
        None
    }

    /// Executes steps until the session waits. No time passes.
    pub(crate) fn run(&mut self) {
        self.run_until(self.now);
    }

    /// Executes steps while this much time passes.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// The same, in seconds.
    pub(crate) fn pass_seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    fn run_until(&mut self, end: Moment) {
        let mut at_once = 0;
        loop {
            match self.step() {
                Some(until) if until > end => break,
                Some(until) if until > self.now => (self.now, at_once) = (until, 0),
                Some(_) | None => at_once += 1,
            }
            assert!(
                at_once < MAX_STEPS,
                "the session never waits: {:?}",
                self.haproxy.lines.iter().rev().take(5).collect::<Vec<_>>()
            );
        }
        self.now = end;
        self.events.extend(self.session.take_events());
    }

    /// Fails the next line with `error`.
    pub(crate) fn fail(&mut self, error: ExchangeError) {
        assert!(!matches!(self.session.next(self.now), Step::Wait(_)), "the session sends no line");
        self.session.answer(Err(error), self.now);
        self.events.extend(self.session.take_events());
    }

    /// Sets a weight in HAProxy as an operator would.
    pub(crate) fn manual_edit(&mut self, server: &str, weight: u16) {
        self.haproxy.server("app", server).weight = weight;
    }

    /// Pauses one backend, or all backends.
    pub(crate) fn pause(&mut self, backend: Option<&str>, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        self.session.pause(&scope(backend), Pause { until, ..Pause::default() }, self.now);
    }

    /// Resumes one backend, or all backends.
    pub(crate) fn resume(&mut self, backend: Option<&str>) -> usize {
        self.session.resume(&scope(backend), &Ended::Lifted { by: None, uid: None })
    }

    /// Returns a backend of the session.
    pub(crate) fn backend(&self, backend: &str) -> &weightd_core::backend::Backend {
        &self.session.backends[&name(backend)]
    }

    /// Returns the weights of `app` in HAProxy.
    pub(crate) fn weights(&self) -> Vec<u16> {
        self.haproxy.weights("app")
    }

    /// Returns the weights that were set, as `server weight`, and their causes.
    pub(crate) fn changes(&self) -> Vec<(String, Cause)> {
        let changed = |event: &Event| match event {
            Event::Changed { change, cause, .. } => Some((format!("{} {}", change.server, change.to), *cause)),
            _ => None,
        };
        self.events.iter().filter_map(changed).collect()
    }

    /// Returns the reason codes of `app`.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let reasons = weightd_core::diagnosis::reasons(self.backend("app"), self.session.pauses.of(&name("app")));
        reasons.into_iter().map(|reason| reason.reason.into_owned()).collect()
    }
}

/// Returns the name of a backend.
pub(crate) fn name(backend: &str) -> BackendName {
    BackendName::new(backend).unwrap()
}

/// Returns the scope of one backend, or of all backends.
pub(crate) fn scope(backend: Option<&str>) -> Scope {
    Scope::of(backend.map(name).as_ref())
}

/// Returns a document with these weights.
pub(crate) fn document(weights: &[(&str, u16)]) -> String {
    let weight = |(server, weight): &(&str, u16)| {
        assert!(Weight::new(u64::from(*weight)).is_ok());
        format!(r#""{server}":{weight}"#)
    };
    format!(r#"{{"weights":{{{}}}}}"#, weights.iter().map(weight).collect::<Vec<_>>().join(","))
}
