//! The whole session, driven as the task drives it, through everything that Consul and HAProxy may do.

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

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// Consul has this document.
    Document { weights: Vec<(&'static str, u16)>, force: bool },
    /// Consul has leaves.
    Leaves(Vec<(&'static str, u16)>),
    /// Consul has a release.
    Release,
    /// Consul has these bytes as the document.
    Garbage(Vec<u8>),
    /// Consul has a document that is nearly one.
    Nearly(&'static str),
    /// Consul has such a key below the prefix, with these bytes, and the backend's own as it was.
    Stray(String, Vec<u8>),
    /// Consul has nothing.
    Absent,
    /// A server's health or its administrative state changes.
    Health { server: usize, op_state: u8, admin_state: u32, checked: bool },
    /// Somebody sets a weight by hand.
    Hand { server: usize, weight: u16 },
    /// From now on sets of this server do this.
    Quirk { server: usize, quirk: Option<(&'static str, bool)> },
    /// HAProxy is reloaded.
    Reload,
    /// Time passes.
    Time(u64),
}

impl Event {
    /// Whether it happens to HAProxy, and Consul says nothing.
    fn is_haproxys(&self) -> bool {
        matches!(self, Self::Health { .. } | Self::Hand { .. } | Self::Quirk { .. } | Self::Reload)
    }
}

fn weights() -> impl Strategy<Value = Vec<(&'static str, u16)>> {
    let weight = prop_oneof![3 => Just(0), 3 => Just(100), 2 => 0..=256u16];
    prop::collection::btree_map(select(vec!["blue", "green", "red", "missing"]), weight, 1..4)
        .prop_map(|weights| weights.into_iter().collect())
}

fn event() -> impl Strategy<Value = Event> {
    const NEARLY: [&str; 9] = [
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
        3 => select(NEARLY.to_vec()).prop_map(Event::Nearly),
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
    /// The keys of the backend as Consul has them.
    keys: Vec<(String, Vec<u8>)>,
    name: BackendName,
}

impl World {
    fn new(algorithm: &'static str) -> Self {
        // Nothing happens by itself: each case says when something is read.
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

    /// Consul has the keys of the backend, and perhaps another one. Returns a valid document, if there is one.
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
            Event::Nearly(text) => {
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

    /// Reads everything, and does what follows from it. Returns how many weights were sent.
    fn sync(&mut self) -> usize {
        let lines = self.model.lines.len();
        // A reading that is a moment old is old enough to be repeated.
        self.now = self.now + Duration::from_millis(1);
        self.session.refresh(Duration::ZERO, self.now);
        for _ in 0..1000 {
            let before = self.accepted();
            let step = self.session.next(self.now);
            if self.accepted() != before {
                self.model.wants_changed();
            }
            let line = match &step {
                Step::Ask(line) => line.line(),
                Step::Send(line) => line.line(),
                // A pass that somebody waits for pauses for some milliseconds between two batches.
                Step::Wait(until) if until.since(self.now) < Duration::from_millis(100) => {
                    self.now = *until;
                    continue;
                }
                Step::Wait(_) => {
                    let sets = |line: &String| line.matches("set server").count();
                    return self.model.lines[lines..].iter().map(sets).sum();
                }
            };
            let answer = Answer::parse(self.model.answer(&line.wire()), line.commands()).expect("the model is right");
            let before = self.accepted();
            self.session.answer(Ok(answer), self.now);
            if self.accepted() != before {
                self.model.wants_changed();
            }
        }
        panic!("it does not come to an end: {:?}", self.model.lines.last());
    }

    fn accepted(&self) -> Option<Arc<Desired>> {
        self.session.backends.get(&self.name).and_then(|b| b.accepted.clone())
    }

    /// Whether a server surely runs and is above 0.
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
    fn whatever_happens(algorithm in select(vec!["roundrobin", "hdr", "source"]), events in vec((event(), any::<bool>()), 1..25)) {
        let mut world = World::new(algorithm);
        let mut last_valid: Option<Arc<Desired>> = None;
        let (mut leaves, mut reloaded) = (false, false);
        for (event, seen) in &events {
            let valid = world.happen(event);
            // What happens to HAProxy may be found only after what Consul says next.
            if !seen && event.is_haproxys() {
                reloaded |= matches!(event, Event::Reload);
                continue;
            }
            let says_nothing = matches!(event, Event::Garbage(_) | Event::Nearly(_) | Event::Absent);
            prop_assert!(!says_nothing || valid.is_none(), "{event:?} is a document");
            if valid.is_some() {
                leaves = !world.keys.iter().any(|(key, _)| key == "app");
            }
            last_valid = valid.or(last_valid).filter(|_| !matches!(event, Event::Release));
            let (before, serving) = (world.accepted(), world.serving());
            let weights = world.model.weights("app");
            let sent = world.sync();
            let after = world.accepted();

            // Only an explicit, valid document acts, and one that is gone acts no more.
            prop_assert!(!says_nothing || after == before, "{event:?} changed what is accepted");
            if after != before
                && let Some(after) = &after
            {
                let last_valid = last_valid.as_ref().expect("something valid was accepted");
                prop_assert_eq!(after.index, last_valid.index, "{:?}", event);
                for (server, weight) in &after.weights {
                    let said = last_valid.weights.get(server);
                    // A leaf that is gone is no instruction: what was accepted of it stays.
                    let was = before.as_ref().and_then(|before| before.weights.get(server)).filter(|_| leaves);
                    prop_assert_eq!(Some(weight), said.or(was), "{:?}: {}", event, server);
                }
                prop_assert!(last_valid.weights.keys().all(|server| after.weights.contains_key(server)));
                let kept = |before: &Arc<Desired>| before.weights.keys().all(|s| after.weights.contains_key(s));
                prop_assert!(!leaves || before.as_ref().is_none_or(kept), "{event:?} dropped a server");
            }
            if matches!(event, Event::Release) {
                prop_assert_eq!((&after, sent), (&None, 0));
            } else if before.is_some() {
                prop_assert!(after.is_some(), "{event:?} ended the management");
            }
            // What is not named is not touched, and nothing is sent where nothing is accepted.
            prop_assert!(after.is_some() || sent == 0);
            for ((server, was), is) in SERVERS.iter().zip(&weights).zip(world.model.weights("app")) {
                let named = world.named(server);
                prop_assert!(*was == is || named == Some(is), "{server} went from {was} to {is}, named {named:?}");
            }
            // A new decision leaves a server to serve, whatever of it fails; if the algorithm is known to be dynamic,
            // sets of servers that are there do not fail. In a process that has not checked a server yet nobody knows.
            let forced = after.as_ref().is_some_and(|accepted| accepted.force);
            let knows = !std::mem::take(&mut reloaded);
            if after != before && serving && knows && !forced && !(algorithm == "roundrobin" && world.quirky()) {
                prop_assert!(world.serving(), "{event:?} took the last one away: {:?}", world.model.backends);
            }
            // Done is done. A document that waits for health may be accepted at any reading.
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
    fn no_key_and_no_value_makes_the_decoder_stumble(
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
            let state = decoder.decode(&entries).expect("all lie below the prefix");
            prop_assert!(state.backends.len() + state.stray_total <= keys.len());
        }
    }

    #[test]
    fn whatever_the_decoder_remembers_it_says_what_a_fresh_one_says(
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
            let state = decoder.decode(&entries).expect("all lie below the prefix");
            prop_assert_eq!(&state, &Decoder::new("w/").decode(&entries).expect("all lie below the prefix"));
            prop_assert!(Arc::ptr_eq(&state, &decoder.decode(&entries).expect("as before")), "nothing changed");
        }
    }
}
