//! The watch of Consul with answers that a real Consul does not return on demand. The test controls the clock.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use weightd::{
    base::clock::Clock,
    consul::{
        Client, Settings, TokenSource,
        watch::{Feed, Link, Watch, WatchHandle},
    },
};
use weightd_core::{
    desired::{DesiredState, Instruction, Published},
    model::{BackendName, ServerName},
};

use crate::fakes::{
    FakeConsul, Frozen,
    consul::{Answer, Seen},
    fault::Fault,
};

mod daemon;
pub mod index;
pub mod large;
pub mod pace;
pub mod refused;
pub mod who;

/// The watched prefix.
pub const PREFIX: &str = "weightd/weights/";
/// The maximum wait of a query.
const WAIT: Duration = Duration::from_secs(55);
/// A short time, for an effect that comes soon.
const STEP: Duration = Duration::from_millis(10);

const SECOND: Duration = Duration::from_secs(1);

/// A watch of a fake Consul with a stopped clock.
struct Following {
    consul: FakeConsul,
    frozen: Frozen,
    clock: Clock,
    link: watch::Receiver<Link>,
    /// The published weights of `app/green`, in order; none if Consul had no `app`.
    published: Arc<Mutex<Vec<Option<u16>>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Following {
    /// Follows a Consul with this weight of green, or without a document.
    async fn start(green: Option<u16>) -> anyhow::Result<Self> {
        Self::start_with(green, |settings| settings).await
    }

    async fn start_with(green: Option<u16>, settings: impl FnOnce(Settings) -> Settings) -> anyhow::Result<Self> {
        let consul = FakeConsul::start().await?;
        let frozen = Frozen::clock();
        for _ in 0..50 {
            consul.put("elsewhere", "x");
        }
        if let Some(green) = green {
            consul.put("weightd/weights/app", &document(green));
        }
        let settings = settings(Settings { address: consul.address().parse()?, ..Settings::default() });
        let client = Arc::new(Client::new(settings)?);
        let clock = Clock::start();
        let (watch, followed) = Watch::new(client, PREFIX.to_owned(), WAIT, clock);
        let WatchHandle { feed: mut received, link, refresh: _refresh } = followed;
        let published = Arc::<Mutex<Vec<_>>>::default();
        let notes = Arc::clone(&published);
        let collector = tokio::spawn(async move {
            while received.changed().await.is_ok() {
                if let Feed::State { state, .. } = &*received.borrow_and_update() {
                    notes.lock().unwrap_or_else(PoisonError::into_inner).push(green_of(state));
                }
            }
        });
        let following = Self { consul, frozen, clock, link, published, tasks: [tokio::spawn(watch.run()), collector] };
        following.frozen.settle().await;
        following.ask_again().await;
        Ok(following)
    }

    /// Writes this weight of green. The watch may publish it at once, and then queries Consul again.
    async fn put(&self, green: u16) {
        self.consul.put("weightd/weights/app", &document(green));
        self.frozen.settle().await;
        self.ask_again().await;
    }

    /// After an answer, the watch pauses briefly before its next query.
    async fn ask_again(&self) {
        self.frozen.pass(STEP / 2, STEP / 2).await;
    }

    async fn pass(&self, time: Duration) {
        self.frozen.pass(time, STEP).await;
    }

    /// Advances the clock until there is no usable answer.
    async fn until_held(&self) {
        self.until("it is held", || self.held().is_some()).await;
    }

    /// Advances the clock until this number of requests was sent.
    async fn until_requests(&self, count: usize) {
        self.until("more requests", || self.requests().len() >= count).await;
    }

    async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        for _ in 0..1000 {
            if reached() {
                return;
            }
            self.frozen.pass(SECOND / 20, SECOND / 20).await;
        }
        panic!("not within 50 s: {what}");
    }

    /// All published weights.
    #[track_caller]
    fn expect_published(&self, expected: &[u16]) {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(published, expected.iter().copied().map(Some).collect::<Vec<_>>());
    }

    fn requests(&self) -> Vec<Seen> {
        self.consul.requests()
    }

    fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.link.borrow().errors.clone()
    }

    /// The reason why there is no usable answer.
    fn held(&self) -> Option<&'static str> {
        self.link.borrow().held(self.clock.now()).map(|held| held.reason)
    }
}

/// A document with this weight of green.
pub fn document(green: u16) -> String {
    format!(r#"{{"weights":{{"blue":100,"green":{green}}}}}"#)
}

fn green_of(state: &DesiredState) -> Option<u16> {
    let name = |text| BackendName::new(text).expect("a name");
    match state.backends.get(&name("app"))? {
        Published::Valid(Instruction::Weights(desired)) => {
            Some(desired.weights[&ServerName::new("green").expect("a name")].get())
        }
        other => panic!("not a document: {other:?}"),
    }
}

/// The answer of a Consul with this weight of green.
fn answer(index: u64, green: u16) -> Answer {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let value = STANDARD.encode(document(green));
    let body = format!(
        r#"[{{"LockIndex":0,"Key":"weightd/weights/app","Flags":0,"Value":"{value}","CreateIndex":1,"ModifyIndex":{index}}}]"#
    );
    Answer { status: 200, index, body }
}

/// Every answer that must not be used, with its reason code in status. `target` is the address in the redirect.
pub fn faults(target: &str) -> Vec<(Fault, &'static str)> {
    const ENTRY: &str =
        r#"[{"LockIndex":0,"Key":"weightd/weights/app","Flags":0,"Value":"e%","CreateIndex":1,"ModifyIndex":9}]"#;
    const FOREIGN: &str =
        r#"[{"LockIndex":0,"Key":"other/app","Flags":0,"Value":"NTA=","CreateIndex":1,"ModifyIndex":9}]"#;
    let page = "<html><body>Bad Gateway</body></html>";
    let mut faults: Vec<_> =
        [None, Some("0"), Some("-1"), Some("1.5"), Some("abc"), Some(""), Some("18446744073709551616")]
            .map(|index| (Fault::index(index), "no_index"))
            .into();
    faults.extend([
        (Fault::no_leader(), "no_leader"),
        (Fault::status("500", 500, "No cluster leader"), "unavailable"),
        (Fault::status("502", 502, page), "unavailable"),
        (Fault::status("503", 503, page), "unavailable"),
        (Fault::status("429", 429, ""), "rate_limited"),
        (Fault::encoded(), "bad_response"),
        (Fault::status("403", 403, "ACL not found"), "denied"),
        (Fault::status("400", 400, "Invalid index"), "status"),
        (Fault::status("404 of another server", 404, "no such page"), "no_index"),
        (Fault::status("204", 204, ""), "status"),
        (Fault::redirect(format!("{target}/v1/kv/{PREFIX}?recurse")), "status"),
        (Fault::truncated(), "unreachable"),
        (Fault::closed(), "closed"),
        (Fault::body("a page", page), "bad_response"),
        (Fault::body("nothing", ""), "bad_response"),
        (Fault::body("null", "null"), "bad_response"),
        (Fault::body("an object", "{}"), "bad_response"),
        (Fault::body("half of it", r#"[{"Key":"weightd/weights/app","Val"#), "bad_response"),
        (Fault::body("no base64", ENTRY), "bad_response"),
        (Fault::body("a foreign key", FOREIGN), "bad_response"),
    ]);
    faults
}

/// Replaces a token file atomically.
fn rotate(path: &Path, token: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, token)?;
    Ok(std::fs::rename(new, path)?)
}
