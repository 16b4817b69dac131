//! weightctl in front of a real controller.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use weightd_core::rollout::Phase;

use super::stage::Stage;
use crate::harness::{side::Behaviour, weightd::weightctl_within};

/// Runs `weightctl rollout`: its exit code, stdout and stderr.
pub(super) async fn rollout(stage: &Stage, within: u64, arguments: &str) -> anyhow::Result<(i32, String, String)> {
    let address = stage.consul.address();
    let environment = [
        ("CONSUL_HTTP_ADDR", address.as_str()),
        ("USER", "alice"),
        ("SUDO_USER", ""),
        ("WEIGHTD_CONFIG", "/nonexistent"),
    ];
    let line = format!("rollout {arguments}");
    let words: Vec<_> = line.split_whitespace().collect();
    let output = weightctl_within(Duration::from_secs(within), &environment, &words).await?;
    let code = output.status.code().context("it was killed")?;
    Ok((code, String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

#[tokio::test]
async fn a_rollout_is_started_paused_and_resumed_and_refuses_what_it_cannot_do() -> anyhow::Result<()> {
    let stage = Stage::new(2, 50).await?;
    let start = "start app --to green --mode auto --plan demo --yes -o json";
    let (code, out, err) = rollout(&stage, 40, start).await?;
    ensure!(code == 0, "{err}");
    let view: Value = serde_json::from_str(&out)?;
    ensure!(view["begun"] == true && view["controller"] == "one" && view["from"][0] == "blue", "{view}");
    let (code, _, err) = rollout(&stage, 40, "start app --to green --mode watch --yes").await?;
    ensure!(code == 7 && err.contains("has a rollout already"), "{err}");
    let (code, _, err) = rollout(&stage, 20, "pause app -m lunch").await?;
    ensure!(code == 0 && err.contains("pause: done") && err.contains("paused by alice"), "{err}");
    let (code, _, err) = rollout(&stage, 20, "watch app --wait").await?;
    ensure!(code == 10 && err.contains("paused by alice"), "{err}");
    let (code, _, err) = rollout(&stage, 20, "promote app --yes").await?;
    ensure!(code == 7 && err.contains("the leader refused `promote`"), "{err}");
    let (code, _, err) = rollout(&stage, 20, "resume app --yes").await?;
    ensure!(code == 0 && err.contains("resume: done"), "{err}");
    let (code, _, err) = rollout(&stage, 20, "watch app --wait --timeout 1s").await?;
    ensure!(code == 3, "{code}: {err}");
    Ok(())
}

#[tokio::test]
async fn a_failing_side_is_taken_back_and_explained() -> anyhow::Result<()> {
    let stage = Stage::new(1, 100).await?;
    let (code, _, err) = rollout(&stage, 40, "start app --to green --mode auto --plan demo --yes").await?;
    ensure!(code == 0, "{err}");
    stage.becomes(Phase::Bake, 10, 120).await?;
    let (_, out, _) = rollout(&stage, 20, "explain app").await?;
    ensure!(out.contains("phase     bake") && out.contains("next      step 2, 50 %"), "{out}");
    stage.green.behave(Behaviour::Fails(500));
    let (code, _, err) = rollout(&stage, 90, "watch app --wait").await?;
    ensure!(code == 9 && err.contains("was rolled back"), "{code}: {err}");
    stage.green_is(0, 5).await
}

#[tokio::test]
async fn a_person_takes_the_new_side_back_and_the_controller_closes_it() -> anyhow::Result<()> {
    let stage = Stage::new(1, 100).await?;
    let (code, _, err) = rollout(&stage, 40, "start app --to green --mode auto --plan demo --yes").await?;
    ensure!(code == 0, "{err}");
    stage.becomes(Phase::Bake, 10, 120).await?;
    let (code, out, err) = rollout(&stage, 40, "abort app --yes -m enough -o json").await?;
    let view: Value = serde_json::from_str(&out).with_context(|| err.clone())?;
    ensure!(code == 0 && view["result"] == "wrote" && view["answered"] == true, "{code} {view}\n{err}");
    stage.becomes(Phase::RolledBack, 0, 20).await?;
    ensure!(stage.state().await?.aborted);
    stage.green_is(0, 5).await
}
