//! Leaders that are killed, one at each transition. Some minutes: `make rollout-test`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;
use weightd_core::{
    model::Timestamp,
    rollout::{Controller, Latch, Phase, State},
};

use super::{
    stage::{APP, Stage},
    stored,
};
use crate::{
    common::key,
    harness::{Behaviour, Rolloutd, always, eventually},
};

/// The longest time without a leader: Consul ends a session after up to twice its 10 s.
const SUCCESSION: Duration = Duration::from_secs(25);

/// A rollout, and two controllers; [`Stage::rolloutd`] is the first.
struct Controllers {
    stage: Stage,
    second: Rolloutd,
    /// Where each leader died, and how long the next one took.
    died: Vec<(String, Duration)>,
}

impl Controllers {
    async fn start() -> anyhow::Result<Self> {
        Self::among(3, 67, "").await
    }

    /// The same with so many nodes, each with so many requests a second, and lines for the configuration of the controllers.
    async fn among(nodes: usize, per_second: u32, config: &str) -> anyhow::Result<Self> {
        let mut stage = Stage::new(nodes, per_second).await?;
        let mut second = Rolloutd::start(&stage.consul, "two").await?;
        if !config.is_empty() {
            for rolloutd in [&mut stage.rolloutd, &mut second] {
                rolloutd.add(config)?;
                rolloutd.stop().await?;
                rolloutd.start_again().await?;
            }
        }
        // Somebody watches the rollout: evidence is stored every 10 s.
        let observation = json!({"by": "carol", "sides": {"from": ["blue"], "to": ["green"]}});
        stage.consul.put("weightd/observe/app/carol", observation.to_string()).await?;
        Ok(Self { stage, second, died: Vec::new() })
    }

    /// The one that leads.
    async fn leader(&self) -> anyhow::Result<Controller> {
        let value = self.stage.consul.get("weightd/controller").await?.context("nobody leads")?;
        Ok(Controller::parse(&value)?)
    }

    /// Kills the leader in this phase, calls `then` while nobody leads, and waits for the other one, which goes on with state
    /// and evidence.
    async fn leader_dies(
        &mut self,
        at: &str,
        phase: Phase,
        then: impl AsyncFnOnce(&mut Stage) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let lives = match self.leader().await?.name.as_str() {
            "one" => "two",
            _ => "one",
        };
        self.other_than(lives).kill().await?;
        let killed = Instant::now();
        let state = self.stage.state().await?;
        // Before a rollout has its turn there is no evidence.
        let evidence = if state.phase == Phase::Queued { json!(null) } else { self.stage.evidence().await? };
        ensure!(state.phase == phase, "{at}: it died too late: {state:?}");
        then(&mut self.stage).await?;
        eventually(SUCCESSION, "the other one leads", async || {
            let leader = self.leader().await?;
            ensure!(leader.name == lives, "{leader:?}");
            Ok(())
        })
        .await
        .with_context(|| format!("killed at {at}"))?;
        self.died.push((at.to_owned(), killed.elapsed()));
        self.goes_on_with(&state, &evidence).await.with_context(|| format!("after the death at {at}"))?;
        self.other_than(lives).start_again().await?;
        self.one_leads(lives).await
    }

    fn other_than(&mut self, name: &str) -> &mut Rolloutd {
        if name == "two" { &mut self.stage.rolloutd } else { &mut self.second }
    }

    /// Waits until the new leader has stored what it knows of a bake: not less than what the dead one stored. Other phases
    /// have no evidence; one that has ended stays as it is.
    async fn goes_on_with(&self, before: &State, evidence: &serde_json::Value) -> anyhow::Result<()> {
        if before.phase != Phase::Bake {
            let same = self.stage.state().await? == *before;
            ensure!(same || !before.phase.is_final(), "it moved after its end");
            return Ok(());
        }
        eventually(Duration::from_secs(60), "the new leader stores evidence", async || {
            let (state, now) = (self.stage.state().await?, self.stage.evidence().await?);
            let moved = (state.phase, state.step) != (before.phase, before.step);
            ensure!(moved || now != *evidence, "{now}");
            if !moved {
                for number in ["/good", "/block", "/judge/to_n", "/judge/to_e"] {
                    let (was, is) = (evidence.pointer(number), now.pointer(number));
                    let (was, is) = (was.and_then(serde_json::Value::as_u64), is.and_then(serde_json::Value::as_u64));
                    ensure!(is.context("a number")? >= was.context("a number")?, "{number}: {was:?} and {is:?}");
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until this one leads and the other one knows that it does not.
    async fn one_leads(&self, name: &str) -> anyhow::Result<()> {
        let (leads, follows) = match name {
            "one" => (&self.stage.rolloutd, &self.second),
            _ => (&self.second, &self.stage.rolloutd),
        };
        eventually(Duration::from_secs(10), "one leads and the other one follows", async || {
            let (leads, follows) = (leads.get("/ready").await?.1, follows.get("/ready").await?.1);
            ensure!(leads.contains("it leads"), "{leads}");
            ensure!(follows.contains("another controller leads"), "{follows}");
            Ok(())
        })
        .await
    }

    /// Waits until the present leader says that the rollout waits for an approval.
    async fn waits_for_approval(&self, within: u64) -> anyhow::Result<()> {
        eventually(Duration::from_secs(within), "it waits for an approval only", async || {
            let (leader, evidence) = (self.leader().await?, self.stage.evidence().await?);
            let shown: Timestamp = serde_json::from_value(evidence["shown"]["at"].clone())?;
            ensure!(shown > leader.since, "that is of the leader before: {evidence}");
            let holding = evidence["shown"]["holding"].as_array().context("no reasons")?.clone();
            let words: Vec<_> = holding.iter().filter_map(|reason| reason["word"].as_str()).collect();
            let bake_is_full = evidence["shown"]["good"].as_u64() >= evidence["shown"]["needed"].as_u64();
            ensure!(bake_is_full && words == ["approval"], "{evidence}");
            Ok(())
        })
        .await
    }

    /// Waits until the state is so.
    async fn until(&self, within: u64, what: &str, so: impl Fn(&State) -> bool) -> anyhow::Result<()> {
        eventually(Duration::from_secs(within), what, async || {
            let state = self.stage.state().await?;
            ensure!(so(&state), "{state:?}");
            Ok(())
        })
        .await
    }

    /// Where each leader died, and how long nobody led.
    fn report(&self) -> String {
        let lines =
            self.died.iter().map(|(at, pause)| format!("killed at {at}: another one leads after {pause:.1?}\n"));
        let longest = self.died.iter().map(|(_, pause)| *pause).max().unwrap_or_default();
        format!(
            "{}{} leaders killed, at most {longest:.1?} without one",
            lines.collect::<Vec<_>>().concat(),
            self.died.len()
        )
    }
}

/// A node that does nothing for a while: what was written is not applied everywhere.
fn signal_node(stage: &mut Stage, signal: Signal) -> anyhow::Result<()> {
    stage.nodes[2].weightd.program().signal(signal)
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn a_healthy_rollout_ends_although_each_transition_kills_the_leader() -> anyhow::Result<()> {
    let mut all = Controllers::start().await?;
    let step = |share| json!({"share": share, "bake": "30s", "must_exclude": 0, "approve": true});
    all.stage.start_plan("r1", "auto", &json!({"step": [step(50), step(100)]})).await?;
    eventually(Duration::from_secs(20), "the rollout is there", async || all.stage.evidence().await).await?;
    all.leader_dies("preflight", Phase::Preflight, async |_| Ok(())).await?;
    for (number, share) in [(1, 50), (2, 100)] {
        all.waits_for_approval(240).await?;
        let phase = all.stage.state().await?.phase;
        all.leader_dies(&format!("the approval of step {number}"), phase, async |_| Ok(())).await?;
        all.waits_for_approval(120).await?;
        signal_node(&mut all.stage, Signal::STOP)?;
        all.stage.approve(&format!("q{number}")).await?;
        all.stage.becomes(Phase::Shift, share, 20).await?;
        all.leader_dies(&format!("the shift to {share} %"), Phase::Shift, async |stage| {
            signal_node(stage, Signal::CONT)
        })
        .await?;
        all.stage.becomes(Phase::Bake, share, 60).await?;
        all.leader_dies(&format!("the begin of the bake at {share} %"), Phase::Bake, async |_| Ok(())).await?;
        if number == 1 {
            eventually(Duration::from_secs(60), "some of the bake is stored", async || {
                let good = all.stage.evidence().await?["good"].as_u64();
                ensure!(good > Some(0), "{good:?}");
                Ok(())
            })
            .await?;
            all.leader_dies("the middle of a bake", Phase::Bake, async |_| Ok(())).await?;
        }
    }
    all.stage.becomes(Phase::Done, 100, 240).await?;
    all.leader_dies("the end", Phase::Done, async |_| Ok(())).await?;
    let ended = all.stage.state().await?;
    always(Duration::from_secs(5), "nothing moves after the end", async || {
        ensure!(all.stage.state().await? == ended);
        Ok(())
    })
    .await?;
    let written = stored::written(&all.stage.consul, APP, "green").await?;
    ensure!(written == [50, 100], "{written:?}");
    all.stage.green_is(1, 5).await?;
    ensure!(all.stage.failed() == 0, "{} requests failed", all.stage.failed());
    println!("{}", all.report());
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn a_bad_rollout_goes_back_although_the_leader_is_killed_on_the_way() -> anyhow::Result<()> {
    let mut all = Controllers::start().await?;
    let step = |share| json!({"share": share, "bake": "1m", "must_exclude": 0});
    all.stage.start_plan("r1", "auto", &json!({"step": [step(50), step(100)]})).await?;
    all.stage.becomes(Phase::Bake, 50, 200).await?;
    all.leader_dies("the begin of the bake at 50 %", Phase::Bake, async |_| Ok(())).await?;
    signal_node(&mut all.stage, Signal::STOP)?;
    all.stage.green.behave(Behaviour::Status(500));
    all.until(60, "it goes back", |state| state.phase == Phase::RollingBack).await?;
    all.leader_dies("the way back", Phase::RollingBack, async |stage| signal_node(stage, Signal::CONT)).await?;
    all.stage.becomes(Phase::RolledBack, 0, 70).await?;
    all.leader_dies("the end", Phase::RolledBack, async |_| Ok(())).await?;
    let written = stored::written(&all.stage.consul, APP, "green").await?;
    ensure!(written == [50, 0], "{written:?}");
    ensure!(all.stage.state().await?.late.is_empty());
    all.stage.green_is(0, 5).await?;
    println!("{}", all.report());
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn what_a_person_decided_stays_although_the_leader_is_killed() -> anyhow::Result<()> {
    let mut all = Controllers::start().await?;
    // Nobody approves the second step, so that the rollout stays at 50 %.
    let step = |share| json!({"share": share, "bake": "30s", "must_exclude": 0, "approve": share == 100});
    all.stage.start_plan("r1", "auto", &json!({"step": [step(50), step(100)]})).await?;
    all.stage.becomes(Phase::Bake, 50, 200).await?;
    all.stage.request("q1", "pause").await?;
    all.until(20, "it is paused", |state| state.paused.is_some()).await?;
    all.leader_dies("a pause", Phase::Bake, async |_| Ok(())).await?;
    let both = |stage: &Stage, status| [&stage.blue, &stage.green].map(|side| side.behave(Behaviour::Status(status)));
    both(&all.stage, 503);
    all.until(120, "the SLO is broken", |state| state.latched == Some(Latch::Slo)).await?;
    both(&all.stage, 200);
    all.leader_dies("a latch", Phase::Bake, async |_| Ok(())).await?;
    let held = all.stage.state().await?;
    ensure!(held.paused.is_some() && held.latched == Some(Latch::Slo) && held.step == 1, "{held:?}");
    all.stage.request("q2", "resume").await?;
    all.until(20, "it goes on", |state| state.paused.is_none() && state.latched.is_none()).await?;
    all.leader_dies("a resume, and a person aborts", Phase::Bake, async |stage| stage.request("q3", "abort").await)
        .await?;
    all.stage.becomes(Phase::RolledBack, 0, 70).await?;
    ensure!(all.stage.state().await?.aborted);
    let written = stored::written(&all.stage.consul, APP, "green").await?;
    ensure!(written == [50, 0], "{written:?}");
    all.stage.green_is(0, 5).await?;
    println!("{}", all.report());
    Ok(())
}

#[tokio::test]
#[ignore = "minutes; make rollout-test"]
async fn a_rollout_keeps_its_turn_and_a_person_s_documents_although_the_leader_is_killed() -> anyhow::Result<()> {
    let mut all = Controllers::among(3, 67, "[controller]\nmax_active = 1\n").await?;
    eventually(SUCCESSION, "one leads", async || all.leader().await).await?;
    // No node has this backend, so its rollout stays in preflight.
    let step = |share| json!({"share": share, "bake": "30s", "must_exclude": 0, "approve": share == 100});
    let plan = json!({"step": [step(50), step(100)]});
    let other = "first";
    all.stage.consul.put(&key(other), json!({"split": {"blue": 100, "green": 0}, "by": "test"}).to_string()).await?;
    stored::start(&all.stage.consul, other, "r0", "auto", ("blue", "green"), &plan).await?;
    eventually(Duration::from_secs(20), "the first one has its turn", async || {
        let state = stored::state(&all.stage.consul, other).await?;
        ensure!(state.phase == Phase::Preflight, "{state:?}");
        Ok(())
    })
    .await?;
    all.stage.start_plan("r1", "auto", &plan).await?;
    all.until(20, "it waits for its turn", |state| state.phase == Phase::Queued).await?;
    all.leader_dies("the queue", Phase::Queued, async |_| Ok(())).await?;
    always(Duration::from_secs(3), "it still waits", async || {
        let (first, state) = (stored::state(&all.stage.consul, other).await?, all.stage.state().await?);
        ensure!(first.phase == Phase::Preflight && state.phase == Phase::Queued, "{first:?} {state:?}");
        Ok(())
    })
    .await?;
    stored::request(&all.stage.consul, other, "q0", "abort").await?;
    all.stage.becomes(Phase::Bake, 50, 200).await?;
    // The same shares again: it goes on with the new index.
    let again = json!({"split": {"blue": 50, "green": 50}, "by": "carol", "reason": "the same again"});
    all.leader_dies("a bake, and a person writes the same shares", Phase::Bake, async |stage| {
        stage.consul.put(&key(APP), again.to_string()).await
    })
    .await?;
    let index = all.stage.consul.index(&key(APP)).await?;
    all.until(20, "the document is adopted", |state| state.document == Some(index)).await?;
    ensure!(all.stage.state().await?.phase == Phase::Bake);
    all.leader_dies("an adopted document", Phase::Bake, async |_| Ok(())).await?;
    // Other shares end it; nobody overwrites them.
    let other = json!({"split": {"blue": 80, "green": 20}, "by": "carol", "reason": "mine"}).to_string();
    all.leader_dies("a bake, and a person writes other shares", Phase::Bake, async |stage| {
        stage.consul.put(&key(APP), other.clone()).await
    })
    .await?;
    all.until(20, "it is taken over", |state| state.phase == Phase::TakenOver).await?;
    all.leader_dies("the end", Phase::TakenOver, async |_| Ok(())).await?;
    let ended = all.stage.state().await?;
    always(Duration::from_secs(5), "nothing moves after the end", async || {
        ensure!(all.stage.state().await? == ended);
        ensure!(all.stage.consul.get(&key(APP)).await? == Some(other.clone().into_bytes()));
        Ok(())
    })
    .await?;
    let written = stored::written(&all.stage.consul, APP, "green").await?;
    ensure!(written == [50], "{written:?}");
    all.stage.green_is(1, 5).await?;
    println!("{}", all.report());
    Ok(())
}
