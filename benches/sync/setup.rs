//! One Consul, and for each side a HAProxy of its own with who follows Consul for it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    floor,
    harness::{
        Consul, Haproxy, Weightd, config,
        program::{self, Program},
        weightd::Settings,
    },
    http::Http,
    observer::{self, Observer, Weights},
    peer,
};

/// At least so long between two changes of one side. weightd paces its reads by what they cost, and that pace is not what is
/// measured here; the case `sustained` measures it.
const APART: Duration = Duration::from_millis(110);
/// On top of it, up to so long: no round may come in step with a timer.
const PHASE_MICROS: u64 = 60_000;
/// How long a side may take to follow everything at the start.
const PATIENCE: Duration = Duration::from_secs(60);
/// Operations of one transaction.
const TRANSACTION: usize = 60;
/// The weight of every server in haproxy.cfg.
const CONFIGURED: u16 = 100;

/// What HAProxy has, on all sides the same.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Backends.
    pub backends: usize,
    /// Servers of each.
    pub servers: usize,
    /// Whether they are chosen by a consistent hash, where a weight costs HAProxy more, and not by turns.
    pub consistent: bool,
}

impl Shape {
    /// So many backends of so many servers each, chosen by turns.
    pub const fn new(backends: usize, servers: usize) -> Self {
        Self { backends, servers, consistent: false }
    }

    /// haproxy.cfg.
    pub fn config(self) -> String {
        // Nobody sends a request: what is measured is the way of a weight.
        let names = (0..self.servers).map(server).collect::<Vec<_>>();
        let servers = names.iter().map(|name| (name.as_str(), 9, CONFIGURED)).collect::<Vec<_>>();
        let lines: &[_] =
            if self.consistent { &["balance uri", "hash-type consistent"] } else { &["balance roundrobin"] };
        (0..self.backends).map(|at| config::backend(&backend(at), lines, &servers, "")).collect()
    }

    /// Weights for all servers, by their number within the backend.
    pub fn weights(self, weight: impl Fn(usize) -> u32) -> Weights {
        let servers = || (0..self.servers).map(|at| (server(at), weight(at))).collect();
        (0..self.backends).map(|at| (backend(at), servers())).collect()
    }
}

/// The name of the backend with this number.
pub fn backend(at: usize) -> String {
    format!("b{at:04}")
}

fn server(at: usize) -> String {
    format!("s{at:02}")
}

/// Whom weightd is compared with.
#[derive(Debug, Clone)]
pub enum Other {
    /// The floor.
    Floor,
    /// The floor that looks before it sets.
    FloorThatLooks,
    /// consul-template that sends commands, and where it is.
    Template(PathBuf),
    /// consul-template that has HAProxy reload, and where it is.
    Reloading(PathBuf),
    /// Another weightd, such as that before a change of its code, and where it is.
    Weightd(PathBuf),
}

impl Other {
    fn name(&self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorThatLooks => "looks",
            Self::Template(_) => "peer",
            Self::Reloading(_) => "peer that reloads",
            Self::Weightd(_) => "other",
        }
    }
}

/// Who follows Consul.
#[derive(Debug)]
pub enum Follower {
    /// What is measured.
    Weightd(Box<Weightd>),
    /// What it is compared with, and where its log lies.
    Other(Box<Program>, TempDir),
}

impl Follower {
    /// Its process.
    pub fn program(&mut self) -> &mut Program {
        match self {
            Self::Weightd(weightd) => weightd.program(),
            Self::Other(program, _) => program,
        }
    }

    /// Its process id.
    pub fn pid(&mut self) -> anyhow::Result<Pid> {
        self.program().pid()
    }
}

/// A HAProxy and who follows Consul for it.
#[derive(Debug)]
pub struct Side {
    /// `weightd`, `floor`, `looks`, `peer`, `peer that reloads` or `other`.
    pub name: &'static str,
    /// Below this lie its documents.
    pub prefix: String,
    /// Its HAProxy.
    pub haproxy: Haproxy,
    /// Who follows.
    pub follower: Follower,
    /// What Consul says, and HAProxy should.
    pub desired: Weights,
    socket: PathBuf,
    changed: Instant,
}

impl Side {
    /// Its HAProxy's admin socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// What the first of two servers gets of their 256, after what it had.
pub type Share = fn(u32) -> u32;

/// Another share than before, with something left for both.
pub fn some(before: u32) -> u32 {
    let shares = std::iter::repeat_with(|| fastrand::u32(1..=255));
    shares.take(100).find(|share| *share != before).unwrap_or(1)
}

/// All or nothing, in turn.
pub fn all_or_nothing(before: u32) -> u32 {
    if before == 0 { 256 } else { 0 }
}

/// Everything that runs for a case.
pub struct Setup {
    /// Asked directly for what the case needs beside the changes. The sides come first: they end before it does.
    pub sides: Vec<Side>,
    /// The one Consul.
    pub consul: Consul,
    /// Looks at HAProxy.
    pub observer: Observer,
    /// How the next weights are chosen.
    pub share: Share,
    /// What is to be said of the setup.
    pub notes: Vec<String>,
    http: Http,
    writes: u64,
}

impl Setup {
    /// Starts weightd, the floor, and whom `others` name. Returns when all weights are as Consul says.
    pub async fn start(shape: Shape, others: &[Other]) -> anyhow::Result<Self> {
        let consul = Consul::start().await?;
        let http = Http::connect(&consul.address())?;
        let mut setup = Self {
            sides: Vec::new(),
            consul,
            observer: Observer::start(),
            share: some,
            notes: Vec::new(),
            http,
            writes: 0,
        };
        let who = [None, Some(&Other::Floor)].into_iter().chain(others.iter().map(Some));
        for other in who {
            let name = other.map_or("weightd", Other::name);
            let prefix = format!("{}/weights/", name.replace(' ', "-"));
            // Each weight is wrong at first.
            let desired = shape.weights(|_| u32::from(CONFIGURED) + 1);
            setup.write(&prefix, &desired)?;
            let haproxy = Haproxy::start(&shape.config()).await?;
            let socket = haproxy.socket();
            let follower = setup.follower(other, &prefix, &haproxy).await?;
            setup.sides.push(Side { name, prefix, haproxy, follower, desired, socket, changed: Instant::now() });
        }
        for side in 0..setup.sides.len() {
            let mut followed = setup.followed(side)?;
            // A peer may lose even its first change, and never tries it again; a second one is another matter.
            if !followed && setup.sides[side].name.starts_with("peer") {
                let prefix = setup.sides[side].prefix.clone();
                setup.sides[side].desired = shape.weights(|_| u32::from(CONFIGURED) + 2);
                let desired = setup.sides[side].desired.clone();
                setup.write(&prefix, &desired)?;
                followed = setup.followed(side)?;
                setup.notes.push(format!("{}: lost the change it found at its start", setup.sides[side].name));
            }
            let Side { name, follower, .. } = &mut setup.sides[side];
            if !followed {
                follower.program().check()?;
                anyhow::bail!("{name} did not follow:\n{}", follower.program().log());
            }
        }
        Ok(setup)
    }

    /// Whether a side follows what it should at the start.
    fn followed(&self, side: usize) -> anyhow::Result<bool> {
        let side = &self.sides[side];
        Ok(observer::until(&side.socket, &side.desired, PATIENCE, true)?.is_some())
    }

    async fn follower(&self, other: Option<&Other>, prefix: &str, haproxy: &Haproxy) -> anyhow::Result<Follower> {
        let Some(other) = other else {
            let settings = Settings::new(&self.consul, haproxy).set("consul.root", "weightd/");
            return Ok(Follower::Weightd(Box::new(settings.start().await?)));
        };
        let dir = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let (consul, socket) = (self.consul.address(), haproxy.socket());
        let mut program = match other {
            Other::Floor => floor::program(false, dir.path(), &consul, prefix, &socket)?,
            Other::FloorThatLooks => floor::program(true, dir.path(), &consul, prefix, &socket)?,
            Other::Weightd(path) => {
                let config = dir.path().join("weightd.toml");
                let (state, run) = (dir.path().join("state"), dir.path().join("run"));
                let text = format!(
                    "node = \"other\"\nstate_dir = \"{}\"\nrun_dir = \"{}\"\n\
                     [consul]\naddress = {consul:?}\nroot = \"other/\"\n\
                     [api]\nlisten = \"off\"\n\
                     [[haproxy]]\nname = \"haproxy\"\naddress = {:?}\n",
                    state.display(),
                    run.display(),
                    haproxy.address()
                );
                fs::create_dir(&run)?;
                fs::write(&config, text).context("cannot write the other weightd's configuration")?;
                Program::new("weightd", path.clone(), dir.path()).args(["--config".as_ref(), config.as_os_str()])
            }
            Other::Reloading(path) => peer::reloading(path, dir.path(), &consul, prefix, haproxy)?,
            Other::Template(path) => peer::sending(path, dir.path(), &consul, prefix, &socket)?,
        };
        program.spawn()?;
        Ok(Follower::Other(Box::new(program), dir))
    }

    /// Writes documents, many in one transaction.
    pub fn write(&mut self, prefix: &str, weights: &Weights) -> anyhow::Result<()> {
        self.writes += 1;
        write(&mut self.http, prefix, weights, self.writes)
    }

    /// Sets what one backend of a side should have, without writing it.
    pub fn choose(&mut self, side: usize, at: usize) -> (String, Weights) {
        let (name, side) = (backend(at), &mut self.sides[side]);
        let weights = side.desired.get_mut(&name).expect("all sides have all backends");
        let share = (self.share)(weights.get(&server(0)).copied().unwrap_or_default());
        weights.insert(server(0), share);
        weights.insert(server(1), 256 - share);
        let expected = Weights::from([(name.clone(), weights.clone())]);
        (name, expected)
    }

    /// Writes one document, alone.
    pub fn put(&mut self, side: usize, weights: &Weights) -> anyhow::Result<()> {
        for (backend, weights) in weights {
            self.writes += 1;
            put(&mut self.http, &self.sides[side].prefix, backend, &document(weights, self.writes))?;
        }
        Ok(())
    }

    /// [`Self::change_now`], once the side's last change is long enough ago.
    pub fn change(&mut self, side: usize, at: usize) -> anyhow::Result<Option<Duration>> {
        let next = self.sides[side].changed + APART + Duration::from_micros(fastrand::u64(..PHASE_MICROS));
        thread::sleep(next.saturating_duration_since(Instant::now()));
        self.change_now(side, at)
    }

    /// Changes two weights of one backend of a side, and returns how long it took until they were seen in HAProxy; none
    /// if they were lost.
    pub fn change_now(&mut self, side: usize, at: usize) -> anyhow::Result<Option<Duration>> {
        let (name, expected) = self.choose(side, at);
        self.writes += 1;
        let text = document(&expected[&name], self.writes);
        let Self { http, observer, sides, .. } = self;
        let side = &mut sides[side];
        side.changed = Instant::now();
        observer.time(&side.socket, expected, || put(http, &side.prefix, &name, &text))
    }

    /// What is not in a HAProxy as it should be, in all sides.
    pub fn differences(&self) -> anyhow::Result<Vec<String>> {
        let mut all = Vec::new();
        for side in &self.sides {
            let wrong = observer::differences(&side.socket, &side.desired)?;
            all.extend(wrong.into_iter().take(3).map(|wrong| format!("{}: {wrong}", side.name)));
        }
        Ok(all)
    }

    /// The bytes of one answer to a read of a prefix.
    pub fn listing_bytes(&mut self, side: usize) -> anyhow::Result<usize> {
        let path = format!("/v1/kv/{}?recurse", self.sides[side].prefix);
        Ok(self.http.get(&path)?.body.len())
    }
}

/// Writes documents below `prefix`, many in one transaction.
pub fn write(http: &mut Http, prefix: &str, weights: &Weights, number: u64) -> anyhow::Result<()> {
    for part in weights.iter().collect::<Vec<_>>().chunks(TRANSACTION) {
        let operations = part.iter().map(|(backend, weights)| {
            let value = BASE64.encode(document(weights, number));
            serde_json::json!({ "KV": { "Verb": "set", "Key": format!("{prefix}{backend}"), "Value": value } })
        });
        let body = operations.collect::<serde_json::Value>().to_string();
        let answer = http.put("/v1/txn", body.as_bytes())?;
        ensure!(answer.status == 200, "Consul refused: {}", String::from_utf8_lossy(&answer.body));
    }
    Ok(())
}

fn put(http: &mut Http, prefix: &str, backend: &str, text: &str) -> anyhow::Result<()> {
    let answer = http.put(&format!("/v1/kv/{prefix}{backend}"), text.as_bytes())?;
    ensure!(answer.status == 200 && answer.body.starts_with(b"true"), "Consul answered {answer:?}");
    Ok(())
}

/// A document as people's tools write it; the same for all sides.
fn document(weights: &BTreeMap<String, u32>, number: u64) -> String {
    let mut text = String::from(r#"{"v":1,"weights":{"#);
    for (at, (server, weight)) in weights.iter().enumerate() {
        let _ = write!(text, "{}\"{server}\":{weight}", if at == 0 { "" } else { "," });
    }
    let _ = write!(text, r#"}},"by":"bench","reason":"change {number}","at":"2026-11-21T10:00:00Z"}}"#);
    text
}

/// Where the peer is, if it is on PATH.
pub fn template() -> Option<PathBuf> {
    program::server("consul-template").ok()
}
