//! The demo of rollouts: a healthy green climbs to 100 % by itself, and one that begins to fail at 10 % is taken back by
//! itself, on two nodes under traffic.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use weightd_core::rollout::{Evidence, Phase, Shown, State, log::Log};

use crate::{
    harness::{Behaviour, Consul, Rolloutd, Side, eventually, program, traffic::Count},
    interruption,
    screen::{Screen, bar, command},
    stage::{NODES, Node, difference},
};

/// The time limit of a rollout.
const PATIENCE: Duration = Duration::from_secs(300);
/// The interval between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Of 1,000 requests, how many green fails in the second rollout.
const FAILS: u16 = 300;
const FAILURE: &str = "begins to fail: 30 % of its answers are a 500";

struct Stage {
    nodes: Vec<Node>,
    consul: Consul,
    blue: Side,
    green: Side,
    rolloutd: Rolloutd,
}

impl Stage {
    async fn start() -> anyhow::Result<Self> {
        let consul = Consul::start().await?;
        let (blue, green) = (Side::start("blue")?, Side::start("green")?);
        let ports = (blue.port(), green.port());
        let starting = NODES.map(|name| Node::start(name, &consul, ports));
        let nodes = futures_util::future::try_join_all(starting).await?.into_iter().map(|(node, _)| node).collect();
        let rolloutd = Rolloutd::start(&consul, "ctl-1").await?;
        let ready = async || {
            let (status, answer) = rolloutd.get("/ready").await?;
            ensure!(status == 200, "{answer}");
            Ok(())
        };
        eventually(Duration::from_secs(20), "rolloutd leads", ready).await?;
        Ok(Self { nodes, consul, blue, green, rolloutd })
    }

    fn counts(&self) -> Vec<Count> {
        self.nodes.iter().map(|node| node.traffic.count()).collect()
    }

    /// Runs weightctl, and shows the command and the end of what it says.
    async fn weightctl(&self, screen: &mut Screen, arguments: &[&str]) -> anyhow::Result<()> {
        screen.heading(&command(&format!("weightctl {}", arguments.join(" "))))?;
        let output = self.consul.weightctl(arguments).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "weightctl: {}: {}", output.status, said.trim());
        screen.fact("weightctl", said.trim().lines().last().unwrap_or_default())?;
        Ok(())
    }

    /// The commands that a user can try while the demo runs.
    fn instructions(&self) -> anyhow::Result<String> {
        let bin = program::binary("weightctl")?;
        let bin = bin.parent().context("weightctl has no directory")?.display();
        let (consul, demo) = (self.consul.address(), std::process::id());
        let mut text = format!(
            "Green serves well again, and the programs run until Ctrl-C. In another terminal:\n\
             \n\
             \x20 export CONSUL_HTTP_ADDR={consul}\n\
             \x20 PATH={bin}:$PATH\n\
             \n\
             \x20 weightctl rollout plan app\n\
             \x20 weightctl rollout start app --to green --plan demo --mode auto\n\
             \x20 weightctl rollout watch app\n\
             \x20 weightctl rollout pause app -m 'a call'\n\
             \x20 weightctl rollout resume app\n\
             \x20 weightctl rollout explain app\n\
             \x20 weightctl rollout abort app --wait\n\
             \n\
             \x20 # green begins to fail; the same command lets it serve again\n\
             \x20 kill -USR1 {demo}\n\
             \x20 # what rolloutd does\n\
             \x20 tail -f {}\n",
            self.rolloutd.dir().join("rolloutd.log").display()
        );
        for node in &self.nodes {
            writeln!(text, "\x20 # {}: which side answers\n\x20 curl -i http://127.0.0.1:{}/", node.name, node.web)?;
        }
        Ok(text)
    }

    /// Runs on, for a person with other terminals. A SIGUSR1 lets green fail, and the next one lets it serve.
    async fn keep(&self, screen: &mut Screen) -> anyhow::Result<()> {
        self.green.behave(Behaviour::Status(200));
        screen.line(&format!("\n{}", self.instructions()?))?;
        let mut toggle = signal(SignalKind::user_defined1())?;
        let (mut fails, mut before) = (false, self.counts());
        loop {
            tokio::select! {
                _ = toggle.recv() => {
                    fails = !fails;
                    self.green.behave(if fails { Behaviour::Fails(FAILS) } else { Behaviour::Status(200) });
                    screen.fact("green", if fails { FAILURE } else { "serves well again" })?;
                }
                () = sleep(Duration::from_secs(1)) => {
                    let counts = self.counts();
                    let recent = difference(&counts, &before);
                    before = counts;
                    let share = recent.percent("green");
                    screen.live(&format!("  answers   {} green {share:5.1} %, {:3} failed", bar(share), recent.failed))?;
                }
            }
        }
    }

    async fn value(&self, kind: &str) -> anyhow::Result<Option<Vec<u8>>> {
        self.consul.get(&format!("weightd/rollouts/{kind}/app")).await
    }

    /// The state of a rollout that is not one of `known`.
    async fn state(&self, known: &BTreeSet<String>) -> anyhow::Result<Option<State>> {
        let Some(value) = self.value("state").await? else { return Ok(None) };
        let state = State::parse(&value, 0).context("the state of the rollout")?;
        Ok(Some(state).filter(|state| !known.contains(&state.id)))
    }

    /// Shows a rollout until it ends, and returns its last state. `at_share` is called once, when green is judged first.
    async fn show(
        &self,
        screen: &mut Screen,
        known: &BTreeSet<String>,
        mut when_judged: impl FnMut(&mut Screen) -> anyhow::Result<()>,
    ) -> anyhow::Result<State> {
        let (deadline, mut told, mut judged) = (Instant::now() + PATIENCE, 0, false);
        let mut before = self.counts();
        loop {
            ensure!(Instant::now() < deadline, "the rollout did not end; rolloutd says:\n{}", self.rolloutd.log());
            sleep(LOOK).await;
            let Some(state) = self.state(known).await? else { continue };
            let log = self.value("log").await?.map(|value| Log::parse(&value)).transpose()?.unwrap_or_default();
            let entries: Vec<_> = log.events.iter().filter(|entry| entry.rollout == state.id).collect();
            for entry in entries.iter().skip(told) {
                screen.fact(&entry.what, &entry.detail)?;
            }
            told = entries.len();
            if state.phase == Phase::Bake && !judged {
                judged = true;
                when_judged(screen)?;
            }
            if state.phase.is_final() {
                return Ok(state);
            }
            let counts = self.counts();
            let recent = difference(&counts, &before);
            if recent.answered() > 200 {
                before = counts;
            }
            let shown = self.value("evidence").await?.and_then(|value| Evidence::parse(&value).ok());
            let shown = shown.filter(|evidence| evidence.rollout == state.id).map(|evidence| evidence.shown);
            screen.live(&live(&state, shown.as_ref(), &recent))?;
        }
    }
}

/// The line that is redrawn.
fn live(state: &State, shown: Option<&Shown>, recent: &Count) -> String {
    let good = shown.map(|shown| format!("{}/{} s", shown.good, shown.needed)).unwrap_or_default();
    let share = recent.percent("green");
    format!("  {:<9} {} {share:5.1} %  {good:>9}", state.phase.as_str(), bar(share))
}

/// Runs the story; with `keep`, the programs run until the demo is interrupted.
pub async fn run(screen: &mut Screen, keep: bool) -> anyhow::Result<()> {
    screen.line("rolloutd moves \"app\" from blue to green by a plan, judges green beside blue on two HAProxies,")?;
    screen.line("and takes it back when it is worse. All runs here, on loopback.\n")?;
    screen.live("  starting Consul, blue and green, two HAProxies, two weightd, rolloutd")?;
    let stage = Stage::start().await?;
    screen.fact("traffic", "150 requests/s to each of lb-1 and lb-2")?;
    let mut known = BTreeSet::new();

    stage.weightctl(screen, &["set", "app", "blue=100", "green=0", "--create", "--yes", "--wait"]).await?;
    let start = ["rollout", "start", "app", "--to", "green", "--plan", "demo", "--mode", "auto", "--convert", "--yes"];
    stage.weightctl(screen, &start).await?;
    let began = stage.counts();
    let ended = stage.show(screen, &known, |_| Ok(())).await?;
    ensure!(ended.phase == Phase::Done, "a healthy green ended with {}: {:?}", ended.phase.as_str(), ended.why);
    let count = difference(&stage.counts(), &began);
    count.expect_no_failure()?;
    screen.fact("answers", &format!("{} requests, none failed; all new ones go to green", count.answered()))?;
    known.insert(ended.id);

    stage
        .weightctl(screen, &["set", "app", "blue=100", "green=0", "--create", "--yes", "--wait", "-m", "again"])
        .await?;
    let began = stage.counts();
    stage.weightctl(screen, &start).await?;
    let mut fails_since = None;
    let fail = |screen: &mut Screen| {
        stage.green.behave(Behaviour::Fails(FAILS));
        fails_since = Some(Instant::now());
        screen.fact("green", FAILURE)?;
        Ok(())
    };
    let ended = stage.show(screen, &known, fail).await?;
    let Some(since) = fails_since else { bail!("green was never judged: {:?}", ended.why) };
    ensure!(ended.phase == Phase::RolledBack, "a green that fails ended with {}", ended.phase.as_str());
    let took = since.elapsed();
    for node in &stage.nodes {
        let weights = node.haproxy.weights("app").await?;
        ensure!(weights.get("green") == Some(&0), "{} has {weights:?}", node.name);
    }
    let count = difference(&stage.counts(), &began);
    ensure!(
        count.failed <= stage.green.failed(),
        "{} requests failed, {} of green",
        count.failed,
        stage.green.failed()
    );
    ensure!(stage.blue.failed() == 0, "blue failed");
    let why = ended.why.unwrap_or_default();
    screen.heading(&format!("Taken back {:.1} s after its first failure: {why}", took.as_secs_f64()))?;
    screen.fact(
        "answers",
        &format!("{} requests, {} failed, all of them green's own", count.answered() + count.failed, count.failed),
    )?;
    if keep {
        // Ctrl-C is the regular end here.
        tokio::select! {
            kept = stage.keep(screen) => kept?,
            interrupted = interruption() => interrupted?,
        }
    }
    Ok(())
}
