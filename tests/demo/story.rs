//! The steps of the demo: green from 0 to 100 percent, and a rollback, with one reload of a HAProxy. Then the same for a
//! backend with sticky users.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::{
    harness::{
        haproxy::until_weights,
        traffic::Count,
        users::{Browser, users},
    },
    screen::{Screen, bar, command},
    stage::{Stage, difference},
};

/// How long the answers of a step are counted.
const PHASE: Duration = Duration::from_millis(4500);
/// The maximum deviation of the measured share, in percentage points.
const TOLERANCE: f64 = 2.0;
/// The time limit until HAProxy has new weights.
const PATIENCE: Duration = Duration::from_secs(10);
/// The period that the live line counts.
const RECENT: Duration = Duration::from_secs(1);
/// The interval between two updates of the live line.
const REDRAW: Duration = Duration::from_millis(100);

/// The shares of green, in percent, with the reason for the document in Consul.
const PHASES: [(u32, &str); 4] = [(0, "all on blue"), (10, "canary"), (50, "half and half"), (100, "all on green")];
/// The share at which one HAProxy is reloaded.
const RELOADED: u32 = 10;
/// The number of users of the backend with sticky users.
const USERS: usize = 200;

/// Runs all steps.
pub async fn run(stage: &mut Stage, screen: &mut Screen) -> anyhow::Result<()> {
    let mut worst = 0.0_f64;
    for (number, (green, reason)) in PHASES.into_iter().enumerate() {
        set(stage, screen, green, reason, number == 0).await?;
        worst = worst.max(count_answers(stage, screen, green, PHASE).await?);
        if green == RELOADED {
            reload(stage, screen, green).await?;
            worst = worst.max(count_answers(stage, screen, green, PHASE / 2).await?);
        }
    }
    rollback(stage, screen).await?;
    worst = worst.max(count_answers(stage, screen, 0, PHASE).await?);
    if stage.has_sticky {
        sticky(stage, screen).await?;
    }
    let count = stage.counts().into_iter().reduce(|all, node| all + node).unwrap_or_default();
    count.expect_no_failure()?;
    screen.heading(&format!(
        "{} requests, none failed; the largest deviation of a share was {worst:.1} points.",
        count.answered()
    ))?;
    Ok(())
}

/// Shows the traffic until the process ends.
pub async fn watch(stage: &Stage, screen: &mut Screen) -> anyhow::Result<()> {
    loop {
        observe(stage, screen, Duration::from_secs(3600)).await?;
    }
}

/// Changes the weights with weightctl, and waits for both nodes.
async fn set(stage: &Stage, screen: &mut Screen, green: u32, reason: &str, first: bool) -> anyhow::Result<()> {
    let weights = [format!("blue={}", 100 - green), format!("green={green}")];
    let mut arguments = vec!["set", "app", &weights[0], &weights[1], "--yes", "--wait"];
    if first {
        arguments.push("--create");
    }
    run_command(stage, screen, "app", &arguments, reason, green).await
}

/// Goes back to where the shift began, with weightctl.
async fn rollback(stage: &Stage, screen: &mut Screen) -> anyhow::Result<()> {
    run_command(stage, screen, "app", &["rollback", "app", "--yes", "--wait"], "green is slow", 0).await
}

/// Shifts users instead of requests. Fails if a user is not on the side that weightctl computes, on each node, or goes
/// back to blue while green rises.
async fn sticky(stage: &Stage, screen: &mut Screen) -> anyhow::Result<()> {
    let users = users(USERS);
    let mut on_green: Vec<String> = Vec::new();
    for (green, reason) in [(0, "all on blue"), (10, "10 % of the users"), (50, "half of the users")] {
        let weights = [format!("blue={}", 100 - green), format!("green={green}")];
        let mut arguments = vec!["set", "shop", &weights[0], &weights[1], "--yes", "--wait"];
        if green == 0 {
            arguments.push("--create");
        }
        run_command(stage, screen, "shop", &arguments, reason, green).await?;
        let now = users_on_green(stage, &users).await?;
        let back = on_green.iter().filter(|user| !now.contains(user)).count();
        ensure!(back == 0, "{back} users went back to blue");
        screen.fact("users", &format!("{} of {USERS} on green, the same on both nodes and in whois", now.len()))?;
        on_green = now;
    }
    run_command(stage, screen, "shop", &["rollback", "shop", "--yes", "--wait"], "green is slow", 0).await?;
    let left = users_on_green(stage, &users).await?.len();
    ensure!(left == 0, "{left} users are still on green");
    screen.fact("users", &format!("{left} of {USERS} on green"))?;
    Ok(())
}

/// The users that green answers. Fails if a node differs from what weightctl computes.
async fn users_on_green(stage: &Stage, users: &[String]) -> anyhow::Result<Vec<String>> {
    let words: Vec<_> = ["whois", "shop", "-o", "json"].into_iter().chain(users.iter().map(String::as_str)).collect();
    let output = stage.consul.weightctl(&words).await?;
    ensure!(output.status.success(), "weightctl: {}", String::from_utf8_lossy(&output.stderr).trim());
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let entries = answer["users"].as_array().context("weightctl names no user")?;
    let side = |entry: &serde_json::Value| {
        let side = if entry["side"] == "to" { "green" } else { "blue" };
        Some((entry["user"].as_str()?.to_owned(), side.to_owned()))
    };
    let computed: BTreeMap<_, _> = entries.iter().filter_map(side).collect();
    for node in &stage.nodes {
        let sides = Browser::new(node.web.number()).sides("/shop", users).await?;
        ensure!(sides == computed, "{} has another side for a user than weightctl computes", node.name);
    }
    Ok(computed.into_iter().filter(|(_, side)| side == "green").map(|(user, _)| user).collect())
}

/// Runs a command of weightctl that writes, and shows when each HAProxy has this share of green.
async fn run_command(
    stage: &Stage,
    screen: &mut Screen,
    backend: &'static str,
    arguments: &[&str],
    reason: &str,
    green: u32,
) -> anyhow::Result<()> {
    screen.heading(&command(&format!("weightctl {} --reason '{reason}'", arguments.join(" "))))?;
    let arguments = [arguments, &["--reason", reason]].concat();
    let desired = [("blue", 100 - green), ("green", green)];

    // Poll in parallel: HAProxy may have the weights before weightctl ends.
    let observers = stage.nodes.iter().map(|node| {
        let socket = node.haproxy.socket();
        tokio::spawn(async move { until_weights(&socket, backend, &desired, PATIENCE).await })
    });
    let observers = observers.collect::<Vec<_>>();
    let start = Instant::now();
    let output = stage.consul.weightctl(&arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "weightctl: {}: {}", output.status, said.trim());
    let mut times = Vec::new();
    for (node, observer) in stage.nodes.iter().zip(observers) {
        let seen = observer.await.context("the observer panicked")??;
        let weights = node.haproxy.weights(backend).await?;
        ensure!(weights.get("green") == Some(&green), "{} has {weights:?}", node.name);
        times.push(format!("{} after {}", node.name, milliseconds(seen.saturating_duration_since(start))));
    }
    let blue = 100 - green;
    screen.fact("haproxy", &format!("blue {blue}, green {green} on {}", times.join(", on ")))?;
    screen.fact("weightctl", said.lines().last().unwrap_or_default())?;
    Ok(())
}

/// Counts the answers for `time`. Fails if the shares differ from the desired ones. Returns the deviation in percentage
/// points.
async fn count_answers(stage: &Stage, screen: &mut Screen, green: u32, time: Duration) -> anyhow::Result<f64> {
    let count = observe(stage, screen, time).await?;
    count.expect_no_failure()?;
    let share = count.percent("green");
    screen.fact("answers", &format!("{} {share:5.1} % of {}, desired {green}", bar(share), count.answered()))?;
    let off = (share - f64::from(green)).abs();
    ensure!(off <= TOLERANCE, "green answered {share:.1} % of the requests instead of {green} %");
    Ok(off)
}

/// Reloads the first HAProxy. Its configuration file has other weights.
async fn reload(stage: &mut Stage, screen: &mut Screen, green: u32) -> anyhow::Result<()> {
    let (file_blue, file_green) = stage.configured;
    let node = stage.nodes.first_mut().context("no node")?;
    screen.heading(&command(&format!("kill -USR2 {}", node.haproxy.master_pid()?.as_raw_nonzero())))?;
    screen
        .fact("haproxy", &format!("reloads on {}; haproxy.cfg has blue {file_blue}, green {file_green}", node.name))?;
    let before = node.traffic.count();
    let start = Instant::now();
    let answered = node.haproxy.reload_again().await?;
    let first = node.haproxy.weights("app").await?;
    let restored = node.haproxy.until_weights("app", &[("blue", 100 - green), ("green", green)], PATIENCE).await?;
    // Answers that were in flight at that moment arrive within this time.
    sleep_until(restored + REDRAW).await;
    let count = node.traffic.since(&before);
    let wrong = count.weights.get(&format!("{file_blue}/{file_green}")).copied().unwrap_or_default();
    let first = first.iter().map(|(server, weight)| format!("{server} {weight}")).collect::<Vec<_>>().join(", ");
    screen.fact("", &format!("the new process answers after {}: {first}", milliseconds(answered - start)))?;
    screen.fact(
        "weightd",
        &format!("has blue {}, green {green} back {} later", 100 - green, milliseconds(restored - answered)),
    )?;
    screen.fact(
        "answers",
        &format!("{wrong} of {} used the weights of haproxy.cfg, {} failed", count.answered(), count.failed),
    )?;
    Ok(())
}

/// Shows the live line for `time`, and returns the counts of that time.
async fn observe(stage: &Stage, screen: &mut Screen, time: Duration) -> anyhow::Result<Count> {
    let (start, end) = (stage.counts(), Instant::now() + time);
    let mut recent = VecDeque::from([(Instant::now(), start.clone())]);
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sleep_until(end) => break,
        }
        let (now, counts) = (Instant::now(), stage.counts());
        while recent.len() > 1 && now - recent[0].0 > RECENT {
            recent.pop_front();
        }
        if let Some((since, earlier)) = recent.front()
            && now > *since
        {
            let window = difference(&counts, earlier);
            let seconds = (now - *since).as_secs_f64();
            let rate = f64::from(u32::try_from(window.answered())?) / seconds;
            let share = window.percent("green");
            screen.live(&format!(
                "  {:<9} {} {share:5.1} %  {rate:4.0}/s  {} failed",
                "now",
                bar(share),
                counts.iter().map(|count| count.failed).sum::<u64>()
            ))?;
        }
        recent.push_back((now, counts));
    }
    Ok(stage.since(&start))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
