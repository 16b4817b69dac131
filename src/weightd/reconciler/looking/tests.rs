use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weightd_core::{
    desired::{Decoder, Entry},
    observed::Role,
    pauses::{Pause, Scope},
    stored::Stored,
};

use super::*;
use crate::haproxy::Info;

const HEADER: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                      srv_check_status srv_check_state srv_agent_state srv_port";

struct World {
    reconciler: Reconciler,
    decoder: Decoder,
    index: u64,
}

impl World {
    fn new(observe_only: bool) -> Self {
        let reconciler = Reconciler::new(Stored::default(), observe_only);
        let mut world = Self { reconciler, decoder: Decoder::new("w/"), index: 0 };
        world.process(1);
        world
    }

    fn process(&mut self, pid: u32) {
        let info = Info { version: "3".into(), pid, uptime: 1, stopping: false, processes: 1 };
        self.reconciler.process(&info);
    }

    /// Consul says this about `app`, and nothing else.
    fn say(&mut self, weights: [u16; 2]) {
        self.index += 1;
        let [blue, green] = weights;
        let value = STANDARD.encode(format!(r#"{{"weights":{{"blue":{blue},"green":{green}}}}}"#));
        let entry = Entry { key: "w/app".into(), value: Some(value.into()), modify_index: self.index };
        self.reconciler.take(&self.decoder.decode(&[entry]).unwrap());
    }

    fn observe(&mut self, states: [u8; 2], weights: [u16; 2]) {
        let ([blue, green], [b, g]) = (weights, states);
        let rows = format!("1 app 1 blue - {b} 0 {blue} 1 6 6 0 80\n1 app 2 green - {g} 0 {green} 1 6 6 0 80\n");
        self.reconciler.observe(&app(), &format!("1\n{HEADER}\n{rows}"), now());
        self.reconciler.take_roles(&app(), Some(Roles { algorithm: "roundrobin".into(), ..Roles::default() }));
    }

    /// The next batch is looked at and decided, and whatever is sent is done.
    fn look(&mut self, states: [u8; 2], weights: [u16; 2]) {
        let batch = self.reconciler.next_batch();
        self.observe(states, weights);
        for (name, why, plan) in self.reconciler.decide(&batch, now()) {
            let to = |server: &str| plan.changes().find(|c| c.server.as_str() == server).map(|c| c.to.get());
            self.observe(states, [to("blue").unwrap_or(weights[0]), to("green").unwrap_or(weights[1])]);
            self.reconciler.applied(&name, why, &plan.stages[0], None, now());
        }
    }

    /// One in which HAProxy has these weights, as Consul says.
    fn settled(weights: [u16; 2]) -> Self {
        let mut world = Self::new(false);
        world.say(weights);
        world.look(UP, weights);
        assert!(world.reconciler.converged());
        world
    }

    fn unseen(&mut self) -> usize {
        self.reconciler.next_unseen(now()).len()
    }
}

const UP: [u8; 2] = [2, 2];
const GREEN_DOWN: [u8; 2] = [2, 0];

fn app() -> BackendName {
    BackendName::new("app").unwrap()
}

fn now() -> Moment {
    Moment::default()
}

#[test]
fn a_document_without_a_zero_on_a_backend_that_is_as_accepted_needs_no_look_before_it() {
    let mut world = World::settled([90, 10]);
    world.say([90, 20]);
    assert_eq!(world.reconciler.next_unseen(now()), [app()]);
    assert!(!world.reconciler.converged(), "nothing was sent yet");
    let plans = world.reconciler.decide(&[app()], now());
    let (_, why, plan) = &plans[0];
    assert_eq!((why.as_str(), plan.to_string().as_str()), ("document", "green 10 → 20"));
    assert!(world.reconciler.next_batch().is_empty(), "it is urgent no more");
    // Its read-back is the look: what somebody else changed meanwhile is found by it.
    world.observe(UP, [7, 20]);
    let next = world.reconciler.applied(&app(), *why, &plan.stages[0], None, now());
    assert_eq!(next.unwrap().to_string(), "blue 7 → 90");
}

#[test]
fn whatever_else_may_depend_on_what_is_there_now_is_looked_at() {
    let without = [50, 50];
    let case = |what: &str, mut world: World, weights: [u16; 2]| {
        world.say(weights);
        assert_eq!(world.unseen(), 0, "{what}");
        assert_eq!(world.reconciler.next_batch(), [app()], "{what}");
    };
    case("a server goes to 0", World::settled([90, 10]), [0, 100]);
    case("a server stays at 0", World::settled([100, 0]), [50, 0]);
    case("nothing is to be sent, so that nothing would be read back", World::settled([90, 10]), [90, 10]);
    case("it was never looked at", World::new(false), without);

    let mut world = World::settled([90, 10]);
    world.process(2);
    case("it was not looked at in this process", world, without);

    let mut world = World::settled([90, 10]);
    world.reconciler.resync();
    let batch = world.reconciler.next_batch();
    world.observe(UP, [1, 1]);
    assert_eq!(world.reconciler.decide(&batch, now()).len(), 1);
    case("it is not as accepted", world, without);

    let mut world = World::settled([100, 0]);
    world.say([0, 100]);
    world.look(GREEN_DOWN, [100, 0]);
    assert!(world.reconciler.backends[&app()].guarded.is_some());
    world.reconciler.look_at_all_now();
    assert_eq!(world.unseen(), 0, "a guarded document waits for health");

    let mut world = World::settled([90, 10]);
    world.reconciler.resync();
    let batch = world.reconciler.next_batch();
    world.observe([0, 0], [90, 10]);
    world.reconciler.decide(&batch, now());
    case("nothing of it is usable", world, without);

    let mut world = World::settled([90, 10]);
    world.say(without);
    let later = now() + Duration::from_secs(60);
    assert!(world.reconciler.next_unseen(later).is_empty(), "the last look is long ago");
    assert_eq!(world.reconciler.next_batch(), [app()]);

    let mut world = World::settled([90, 10]);
    world.reconciler.look_at_all_now();
    assert_eq!(world.unseen(), 0, "there is no new document");

    let mut world = World::settled([90, 10]);
    let until = now() + Duration::from_secs(60);
    world.reconciler.pause(&Scope::All, Pause { until, ..Pause::default() }, now());
    case("hands are off", world, without);

    let mut world = World::new(true);
    world.say([90, 10]);
    world.look(UP, [90, 10]);
    case("it only observes", world, without);
}

#[test]
fn what_is_being_looked_at_is_not_converged_before_it_is_decided() {
    let look = |world: &mut World, weights, expected| {
        world.say(weights);
        assert!(!world.reconciler.converged());
        let batch = world.reconciler.next_batch();
        world.observe(UP, [10, 10]);
        assert!(!world.reconciler.converged(), "whatever it will be");
        world.reconciler.put_back(batch);
        assert!(!world.reconciler.converged(), "it is still to be looked at");
        let batch = world.reconciler.next_batch();
        let plans = world.reconciler.decide(&batch, now());
        assert_eq!((plans.len(), world.reconciler.converged()), expected);
    };
    let mut world = World::new(false);
    look(&mut world, [10, 10], (0, true));
    look(&mut world, [10, 0], (1, false));
    // A look in its turn has nothing new to decide.
    let mut world = World::new(false);
    look(&mut world, [10, 10], (0, true));
    world.reconciler.resync();
    assert_eq!(world.reconciler.next_batch(), [app()]);
    assert!(world.reconciler.converged());
}

#[test]
fn what_a_look_says_of_the_servers_waits_for_the_roles_and_for_no_other_look() {
    let mut world = World::new(false);
    world.say([0, 100]);
    let batch = world.reconciler.next_batch();
    let row =
        |weight| format!("1\n{HEADER}\n7 app 1 blue - 2 0 {weight} 1 6 6 0 80\n7 app 2 green - 2 0 0 1 6 6 0 80\n");
    world.reconciler.observe(&app(), &row(100), now());
    assert!(world.reconciler.decide(&batch, now()).is_empty(), "nobody knows which of them are backups");
    let backup = |name: &str| (ServerName::new(name).unwrap(), Role { backup: true, ..Role::default() });
    let roles = Roles { algorithm: "roundrobin".into(), servers: [backup("green")].into(), ..Roles::default() };
    assert_eq!(world.reconciler.reads(&batch).looks, [Look { backend: app(), roles: Some(7) }]);
    world.reconciler.take_roles(&app(), Some(roles.clone()));
    assert!(world.reconciler.decide(&batch, now()).is_empty() && world.reconciler.backends[&app()].guarded.is_some());

    // HAProxy went away before it told the roles: the next look begins with the servers again.
    let mut world = World::new(false);
    world.say([50, 100]);
    let batch = world.reconciler.next_batch();
    world.reconciler.observe(&app(), &row(100), now());
    world.reconciler.put_back(batch);
    let batch = world.reconciler.next_batch();
    assert_eq!(world.reconciler.reads(&batch).looks, [Look { backend: app(), roles: None }]);
    world.reconciler.observe(&app(), &row(30), now());
    world.reconciler.take_roles(&app(), Some(roles));
    let plans = world.reconciler.decide(&batch, now());
    assert_eq!(plans[0].2.to_string(), "blue 30 → 50, green 0 → 100");
}
