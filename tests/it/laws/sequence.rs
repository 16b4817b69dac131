//! A whole session, driven like the task drives it, through arbitrary events of Consul and HAProxy.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::{collection::vec, prelude::*, sample::select};
use weightd::{
    haproxy::Answer,
    weightd::session::{Session, Step, Timing},
};
use weightd_core::{
    backend::Backend,
    desired::{Decoder, Desired, Entry, Instruction, Published},
    model::{BackendName, Moment, ServerName},
    stored::Stored,
};

use crate::fakes::Model;

const SERVERS: [&str; 3] = ["blue", "green", "red"];

/// One event.
#[derive(Debug, Clone)]
enum Event {
    /// Consul gets this document.
    Document { weights: Vec<(&'static str, u16)>, force: bool },
    /// Consul gets leaves.
    Leaves(Vec<(&'static str, u16)>),
    /// Consul gets a release.
    Release,
    /// Consul gets these bytes as the document.
    Garbage(Vec<u8>),
    /// Consul gets an almost valid document.
    AlmostValid(&'static str),
    /// Consul gets such a key below the prefix with these bytes; the backend's own keys stay.
    Stray(String, Vec<u8>),
    /// All keys of the backend are deleted.
    Absent,
    /// A server's health or its administrative state changes.
    Health { server: usize, op_state: u8, admin_state: u32, checked: bool },
    /// A weight is set by hand.
    Hand { server: usize, weight: u16 },
    /// From now on, sets of this server have this effect.
    Quirk { server: usize, quirk: Option<(&'static str, bool)> },
    /// HAProxy is reloaded.
    Reload,
    /// Time passes.
    Time(u64),
}

impl Event {
    /// Whether the event concerns HAProxy, so that Consul's data stay the same.
    fn is_about_haproxy(&self) -> bool {
        matches!(self, Self::Health { .. } | Self::Hand { .. } | Self::Quirk { .. } | Self::Reload)
    }
}

fn weights() -> impl Strategy<Value = Vec<(&'static str, u16)>> {
    let weight = prop_oneof![3 => Just(0), 3 => Just(100), 2 => 0..=256u16];
    prop::collection::btree_map(select(vec!["blue", "green", "red", "missing"]), weight, 1..4)
        .prop_map(|weights| weights.into_iter().collect())
}

fn event() -> impl Strategy<Value = Event> {
    const ALMOST_VALID: [&str; 9] = [
        r#"{"weights":{}}"#,
        r#"{"weights":{"blue":257}}"#,
        r#"{"weights":{"blue":-1,"green":0}}"#,
        r#"{"weights":{"blue":0},"release":true}"#,
        r#"{"v":2,"weights":{"blue":0,"green":0,"red":0}}"#,
        r#"{"weights":{"blue":0,"blue":0}}"#,
        r#"{"weights":{"blue;shutdown":0}}"#,
        r#"{"split":{"*":0}}"#,
        "0",
    ];
    let quirks = vec![None, None, Some(("", false)), Some(("What?\n", false)), Some(("What?\n", true))];
    prop_oneof![
        8 => (weights(), prop::bool::weighted(0.1)).prop_map(|(weights, force)| Event::Document { weights, force }),
        2 => weights().prop_map(Event::Leaves),
        1 => Just(Event::Release),
        3 => vec(any::<u8>(), 0..40).prop_map(Event::Garbage),
        3 => select(ALMOST_VALID.to_vec()).prop_map(Event::AlmostValid),
        2 => ("\\PC{0,12}", vec(any::<u8>(), 0..10)).prop_map(|(key, value)| Event::Stray(key, value)),
        2 => Just(Event::Absent),
        6 => (0..3usize, select(vec![0u8, 2, 2]), select(vec![0u32, 0, 0, 1, 8]), prop::bool::weighted(0.8))
            .prop_map(|(server, op_state, admin_state, checked)| Event::Health { server, op_state, admin_state, checked }),
        3 => (0..3usize, 0..=256u16).prop_map(|(server, weight)| Event::Hand { server, weight }),
        3 => (0..3usize, select(quirks)).prop_map(|(server, quirk)| Event::Quirk { server, quirk }),
        2 => Just(Event::Reload),
        4 => (1..400u64).prop_map(Event::Time),
    ]
}

struct World {
    model: Model,
    session: Session,
    decoder: Decoder,
    now: Moment,
    index: u64,
    /// The keys of the backend in Consul.
    keys: Vec<(String, Vec<u8>)>,
    name: BackendName,
}

impl World {
    fn new(algorithm: &'static str) -> Self {
        // Nothing happens automatically: each case determines when something is read.
        let never = Duration::from_secs(1_000_000);
        let timing = Timing { resync: never, process_poll: never };
        let now = Moment::after_start(Duration::from_secs(1));
        Self {
            model: Model::with("app", algorithm, &[("blue", 100), ("green", 0), ("red", 1)]),
            session: Session::new(Stored::default(), false, timing, now),
            decoder: Decoder::new("w/"),
            now,
            index: 1,
            keys: Vec::new(),
            name: BackendName::new("app").expect("a name"),
        }
    }

    /// Passes the keys of the backend, and possibly another key, to the session. Returns the valid document, if there is
    /// one.
    fn consul(&mut self, stray: Option<(String, Vec<u8>)>) -> Option<Arc<Desired>> {
        self.index += 1;
        let keys = self.keys.iter().cloned().chain(stray);
        let entries: Vec<_> = keys
            .map(|(key, value)| Entry {
                key: format!("w/{key}").into(),
                value: (!value.is_empty()).then(|| BASE64.encode(&value).into()),
                modify_index: self.index,
            })
            .collect();
        let state = self.decoder.decode(&entries).expect("keys below the prefix, in base64");
        self.session.set_desired(&state, self.now);
        match state.backends.get(&self.name) {
            Some(Published::Valid(Instruction::Weights(desired) | Instruction::Leaves(desired))) => {
                Some(Arc::clone(desired))
            }
            _ => None,
        }
    }

    fn happen(&mut self, event: &Event) -> Option<Arc<Desired>> {
        let stray = match event {
            Event::Document { weights, force } => {
                let text: Vec<_> = weights.iter().map(|(s, w)| format!(r#""{s}":{w}"#)).collect();
                let text = format!(r#"{{"weights":{{{}}},"force":{force}}}"#, text.join(","));
                self.keys = vec![("app".to_owned(), text.into_bytes())];
                None
            }
            Event::Leaves(weights) => {
                let leaf = |(server, weight): &(&str, u16)| (format!("app/{server}"), weight.to_string().into_bytes());
                self.keys = weights.iter().map(leaf).collect();
                None
            }
            Event::Release => {
                self.keys = vec![("app".to_owned(), br#"{"release":true}"#.to_vec())];
                None
            }
            Event::Garbage(bytes) => {
                self.keys = vec![("app".to_owned(), bytes.clone())];
                None
            }
            Event::AlmostValid(text) => {
                self.keys = vec![("app".to_owned(), text.as_bytes().to_vec())];
                None
            }
            Event::Stray(key, value) => Some((key.clone(), value.clone())),
            Event::Absent => {
                self.keys.clear();
                None
            }
            other => {
                self.haproxy(other);
                return None;
            }
        };
        self.consul(stray)
    }

    fn haproxy(&mut self, event: &Event) {
        match *event {
            Event::Health { server, op_state, admin_state, checked } => {
                let server = self.model.server("app", SERVERS[server]);
                (server.op_state, server.admin_state) = (op_state, admin_state);
                server.check_status = if checked { 6 } else { 1 };
            }
            Event::Hand { server, weight } => self.model.server("app", SERVERS[server]).weight = weight,
            Event::Quirk { server, quirk } => self.model.server("app", SERVERS[server]).quirk = quirk,
            Event::Reload => self.model.reload(),
            Event::Time(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                self.model.uptime += seconds;
            }
            _ => {}
        }
    }

    /// Reads everything and applies the result. Returns the number of weights that were sent.
    fn sync(&mut self) -> usize {
        let lines = self.model.lines.len();
        // Advances the clock, so that the session accepts another reading.
        self.now = self.now + Duration::from_millis(1);
        self.session.refresh(Duration::ZERO, self.now);
        for _ in 0..1000 {
            let before = self.accepted();
            let step = self.session.next(self.now);
            if self.accepted() != before {
                self.model.desired_changed();
            }
            let line = match &step {
                Step::Ask(line) => line.line(),
                Step::Send(line) => line.line(),
                // A pass with a waiting client pauses for some milliseconds between two batches.
                Step::Wait(until) if until.since(self.now) < Duration::from_millis(100) => {
                    self.now = *until;
                    continue;
                }
                Step::Wait(_) => {
                    let sets = |line: &String| line.matches("set server").count();
                    return self.model.lines[lines..].iter().map(sets).sum();
                }
            };
            let answer = Answer::parse(self.model.answer(&line.wire()), line.commands())
                .expect("HAProxy's model returns a valid answer");
            let before = self.accepted();
            self.session.answer(Ok(answer), self.now);
            if self.accepted() != before {
                self.model.desired_changed();
            }
        }
        panic!("the session does not become idle: {:?}", self.model.lines.last());
    }

    fn accepted(&self) -> Option<Arc<Desired>> {
        self.session.backends.get(&self.name).and_then(|b| b.accepted.clone())
    }

    /// Whether a server is certainly up and above 0.
    fn serving(&self) -> bool {
        self.model.backends["app"].servers.iter().any(|s| s.op_state == 2 && s.admin_state == 0 && s.weight > 0)
    }

    fn quirky(&self) -> bool {
        self.model.backends["app"].servers.iter().any(|s| s.quirk.is_some())
    }

    fn named(&self, server: &str) -> Option<u16> {
        let name = ServerName::new(server).expect("a name");
        self.accepted().and_then(|accepted| accepted.weights.get(&name).map(|weight| weight.get()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_session_keeps_its_invariants_for_any_sequence_of_events(algorithm in select(vec!["roundrobin", "hdr", "source"]), events in vec((event(), any::<bool>()), 1..25)) {
        let mut world = World::new(algorithm);
        let mut last_valid: Option<Arc<Desired>> = None;
        let (mut leaves, mut reloaded) = (false, false);
        for (event, seen) in &events {
            let valid = world.happen(event);
            // An event of HAProxy may become visible only after the next event of Consul.
            if !seen && event.is_about_haproxy() {
                reloaded |= matches!(event, Event::Reload);
                continue;
            }
            let no_document = matches!(event, Event::Garbage(_) | Event::AlmostValid(_) | Event::Absent);
            prop_assert!(!no_document || valid.is_none(), "{event:?} is a document");
            if valid.is_some() {
                leaves = !world.keys.iter().any(|(key, _)| key == "app");
            }
            last_valid = valid.or(last_valid).filter(|_| !matches!(event, Event::Release));
            let (before, serving) = (world.accepted(), world.serving());
            let weights = world.model.weights("app");
            let sent = world.sync();
            let after = world.accepted();

            // Only an explicit, valid document changes the accepted weights. A deleted document changes nothing.
            prop_assert!(!no_document || after == before, "{event:?} changed what is accepted");
            if after != before
                && let Some(after) = &after
            {
                let last_valid = last_valid.as_ref().expect("only a valid document is accepted");
                prop_assert_eq!(after.index, last_valid.index, "{:?}", event);
                for (server, weight) in &after.weights {
                    let in_consul = last_valid.weights.get(server);
                    // A deleted leaf is no instruction: its accepted weight stays.
                    let was = before.as_ref().and_then(|before| before.weights.get(server)).filter(|_| leaves);
                    prop_assert_eq!(Some(weight), in_consul.or(was), "{:?}: {}", event, server);
                }
                prop_assert!(last_valid.weights.keys().all(|server| after.weights.contains_key(server)));
                let keeps_servers = |before: &Arc<Desired>| before.weights.keys().all(|s| after.weights.contains_key(s));
                prop_assert!(!leaves || before.as_ref().is_none_or(keeps_servers), "{event:?} dropped a server");
            }
            if matches!(event, Event::Release) {
                prop_assert_eq!((&after, sent), (&None, 0));
            } else if before.is_some() {
                prop_assert!(after.is_some(), "{event:?} ended the management");
            }
            // Servers that the document does not name are not changed. Without an accepted document nothing is sent.
            prop_assert!(after.is_some() || sent == 0);
            for ((server, was), is) in SERVERS.iter().zip(&weights).zip(world.model.weights("app")) {
                let named = world.named(server);
                prop_assert!(*was == is || named == Some(is), "{server} went from {was} to {is}, named {named:?}");
            }
            // A new document keeps a serving server, whatever fails. If the algorithm is known to be dynamic, sets of
            // existing servers do not fail. In a process that has not checked a server yet, its health is unknown. A document
            // with the accepted weights changes nothing: a weight that was set by hand goes back to them without it.
            let forced = after.as_ref().is_some_and(|accepted| accepted.force);
            let knows = !std::mem::take(&mut reloaded);
            let is_new = after.as_ref().map(|a| &a.weights) != before.as_ref().map(|b| &b.weights);
            if is_new && serving && knows && !forced && !(algorithm == "roundrobin" && world.quirky()) {
                prop_assert!(world.serving(), "{event:?} removed the last serving server: {:?}", world.model.backends);
            }
            // Nothing is left to do. A document that waits for health may be accepted at any reading.
            let calm = |world: &World| {
                let backend = world.session.backends.get(&world.name);
                let waits = |b: &Backend| b.withheld.is_some() || b.contention.contended() || b.guarded().is_some();
                !backend.is_some_and(waits)
            };
            let before = calm(&world);
            let again = world.sync();
            if before && calm(&world) && !world.quirky() && algorithm != "source" {
                prop_assert_eq!(again, 0, "after {:?}", event);
                let as_named = |(server, is): (&&str, u16)| world.named(server).is_none_or(|named| named == is);
                let done = SERVERS.iter().zip(world.model.weights("app")).all(as_named);
                prop_assert!(done, "after {event:?}: {:?}", world.model.backends);
            }
            prop_assert_eq!(&world.model.violations, &Vec::<String>::new(), "after {:?}", event);
        }
    }

    #[test]
    fn the_decoder_accepts_any_key_and_any_value(
        keys in vec(("(app|app/blue|app/|\\PC{0,20})", vec(any::<u8>(), 0..60)), 0..12)
    ) {
        let mut decoder = Decoder::new("w/");
        for index in [7, 7, 9] {
            let entries: Vec<_> = keys
                .iter()
                .map(|(key, value)| Entry {
                    key: format!("w/{key}").into(),
                    value: Some(BASE64.encode(value).into()),
                    modify_index: index,
                })
                .collect();
            let state = decoder.decode(&entries).expect("all keys are below the prefix");
            prop_assert!(state.backends.len() + state.stray_total <= keys.len());
        }
    }

    #[test]
    fn a_reused_decoder_returns_the_same_as_a_new_one(
        answers in vec(prop::collection::btree_map(
            "(app|app/blue|app/green|app/|app-admin|other|other/x|a b/x|a b|)",
            (select(vec!["", "7", "5", "x", r#"{"weights":{"a":1}}"#, r#"{"weights":{"a":1},"y":2}"#]), 1..3_u64),
            0..6,
        ), 1..8)
    ) {
        let mut decoder = Decoder::new("w/");
        for keys in answers {
            let entries: Vec<_> = keys
                .iter()
                .map(|(key, (value, index))| Entry {
                    key: format!("w/{key}").into(),
                    value: (!value.is_empty()).then(|| BASE64.encode(value).into()),
                    modify_index: *index,
                })
                .collect();
            let state = decoder.decode(&entries).expect("all keys are below the prefix");
            prop_assert_eq!(&state, &Decoder::new("w/").decode(&entries).expect("all keys are below the prefix"));
            prop_assert!(Arc::ptr_eq(&state, &decoder.decode(&entries).expect("as before")), "nothing changed");
        }
    }
}
