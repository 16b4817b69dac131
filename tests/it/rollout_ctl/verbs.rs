//! The verbs, each with what is wrong and what is right.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use super::{APPROVAL, REQUEST, SPEC, STATE, baking, controller, evidence, rollout, run, spec, split, state, value};
use crate::{
    common::{document, key},
    harness::{Consul, eventually},
};

#[tokio::test]
async fn a_start_has_no_default_mode_and_explains_the_three() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(100, 0)).await?;
    let said = rollout(&consul, "start app1 --to green --yes").await?;
    said.expect(2, &["--mode watch", "--mode guard", "--mode auto", "only tells", "begin with --mode watch"])?;
    rollout(&consul, "start app1 --to green --mode auto --yes")
        .await?
        .expect(2, &["needs a plan", "--plan careful"])?;
    rollout(&consul, "start app1 --to green --mode watch").await?.expect(2, &["cannot ask", "--yes"])?;
    rollout(&consul, "start app1 --to green --mode fast --yes").await?.expect(2, &["write watch, guard or auto"])?;
    rollout(&consul, "start app1 --mode watch --yes").await?.expect(2, &["--to"])?;
    ensure!(consul.get(SPEC).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_start_without_a_controller_says_so_and_a_second_one_is_refused() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(100, 0)).await?;
    let dry = rollout(&consul, "start app1 --to green --mode watch --dry-run -o json").await?;
    let view = dry.expect(0, &["nothing was written", "people move the weights"])?.json()?;
    ensure!(view["dry_run"] == true && view["rollout"].is_null() && view["from"] == json!(["blue"]), "{view}");
    ensure!(consul.get(SPEC).await?.is_none());

    let said = rollout(&consul, "start app1 --to green --mode watch --yes -m because -o json").await?;
    let view = said.expect(0, &["nobody leads", "no node answers", "no controller has begun it"])?.json()?;
    let written = value(&consul, SPEC).await?;
    ensure!(
        written["id"] == view["rollout"] && written["by"] == "alice" && written["reason"] == "because",
        "{written}"
    );
    ensure!(written["mode"] == "watch" && written["regression"] == "rollback" && written["back"] == 0, "{written}");
    ensure!(view["begun"] == false && view["controller"].is_null(), "{view}");
    ensure!(consul.get(REQUEST).await? == Some(b"{}".to_vec()));

    let second = rollout(&consul, "start app1 --to green --mode guard --yes").await?;
    second.expect(7, &["has a rollout already", "alice", "hint: nobody leads", "weightctl rollout abort app1"])?;
    // What the leader saw of an earlier rollout is not of this one.
    let ended = state("r1", "done", "auto", 100, 5);
    consul.put(STATE, ended.to_string()).await?;
    evidence(&consul, &[]).await?;
    let explained = rollout(&consul, "explain app1").await?.expect(0, &["no controller has begun it"])?;
    ensure!(!explained.out.contains("observed"), "{explained:?}");
    consul.delete(STATE).await?;
    consul.delete("weightd/rollouts/evidence/app1").await?;
    rollout(&consul, "log app1 -n x").await?.expect(2, &["write a whole number"])?;
    let withdrawn = rollout(&consul, "abort app1 --yes -o json").await?.expect(0, &["withdrawn"])?;
    ensure!(withdrawn.json()?["result"] == "withdrawn");
    let waited = rollout(&consul, "start app1 --to green --mode watch --yes --wait").await?;
    waited.expect(3, &["nobody leads"])?;
    Ok(())
}

#[tokio::test]
async fn a_start_is_refused_with_the_reason_and_the_remedy() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(100, 0)).await?;
    let start = |arguments: &str| format!("start {arguments} --yes");
    let refused = async |arguments: &str, words: &[&str]| rollout(&consul, &start(arguments)).await?.expect(7, words);
    refused("app2 --to green --mode watch", &["no key in Consul", "did you mean `app1`?"]).await?;
    refused("app1 --to gren --mode watch", &["`gren`", "matches no server", "blue, green"]).await?;
    refused("app1 --to green --from * --mode watch", &["on both sides"]).await?;
    refused("app1 --to green --mode auto --plan carefull", &["no plan `carefull`", "did you mean `careful`?"]).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("plan.toml");
    std::fs::write(&file, "mode = \"auto\"\n[[step]]\nshare = 10\nbake = \"5s\"\n")?;
    refused(&format!("app1 --to green --plan {}", file.display()), &["line 4", "5s is too short"]).await?;
    consul.put("weightd/plans/own", "mode = \"watch\"\nchecks = 1\n").await?;
    refused("app1 --to green --plan own", &["plans/own, line 2", "unknown key `checks`", "did you mean `check`?"])
        .await?;
    consul.delete(&key("app1")).await?;
    consul.put("weightd/weights/app1/blue", "100").await?;
    consul.put("weightd/weights/app1/green", "0").await?;
    refused("app1 --to green --mode watch", &["one key for each server", "--convert"]).await?;
    ensure!(consul.get(SPEC).await?.is_none());
    // It writes the split first, and shows it.
    let said = rollout(&consul, "start app1 --to green --mode watch --convert --yes").await?;
    said.expect(0, &["becomes a split", "one document replaces the leaves"])?;
    ensure!(value(&consul, &key("app1")).await?["split"] == json!({"blue": 100, "green": 0}));
    ensure!(consul.get("weightd/weights/app1/blue").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn what_nobody_answers_is_taken_back_and_a_pause_stays() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    rollout(&consul, "promote app1 --yes").await?.expect(7, &["has no rollout"])?;
    baking(&consul, "auto").await?;
    for (verb, key) in [("promote", REQUEST), ("resume", REQUEST), ("mode", REQUEST), ("approve", APPROVAL)] {
        let more = if verb == "mode" { "guard" } else { "" };
        let said = rollout(&consul, &format!("{verb} app1 {more} --yes -o json")).await?;
        let view = said.expect(3, &["no leader answered", "taken back"])?.json()?;
        ensure!(view["taken_back"] == true && view["answer"] == "none" && view["verb"] == verb, "{view}");
        ensure!(consul.get(key).await? == Some(b"{}".to_vec()), "{verb}");
    }
    rollout(&consul, "pause app1 -m lunch").await?.expect(3, &["no leader answered", "it stays"])?;
    let request = value(&consul, REQUEST).await?;
    ensure!(request["verb"] == "pause" && request["reason"] == "lunch" && request["by"] == "alice", "{request}");
    // One at a time.
    rollout(&consul, "promote app1 --yes").await?.expect(5, &["pause by alice"])?;
    rollout(&consul, "status app1").await?.expect(0, &["pause by alice: nobody has answered it"])?;
    Ok(())
}

#[tokio::test]
async fn the_answer_of_the_leader_is_shown() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    baking(&consul, "auto").await?;
    let answer = async |refused: Option<&str>| {
        let asked = eventually(Duration::from_secs(10), "a request", async || {
            let request = value(&consul, REQUEST).await?;
            ensure!(request["verb"] == "promote", "{request}");
            Ok(request)
        })
        .await?;
        let mut next = value(&consul, STATE).await?;
        next["answered"] = json!({"id": asked["id"], "refused": refused});
        consul.put(STATE, next.to_string()).await?;
        consul.put(REQUEST, "{}").await
    };
    let (said, ()) = tokio::try_join!(rollout(&consul, "promote app1 --yes -o json"), answer(None))?;
    let view = said.expect(0, &["promote: done", "auto: bake, step 1 of 2, 10 %"])?.json()?;
    ensure!(view["answer"] == "done" && view["state"]["seq"] == 7, "{view}");
    let (said, ()) = tokio::try_join!(rollout(&consul, "promote app1 --yes"), answer(Some("there is no bake to end")))?;
    said.expect(7, &["the leader refused `promote`: there is no bake to end"])?;
    Ok(())
}

#[tokio::test]
async fn an_abort_goes_back_without_a_controller_and_past_a_freeze() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    baking(&consul, "auto").await?;
    run(&consul, "freeze -m holidays").await?.expect(0, &[])?;
    rollout(&consul, "abort app1").await?.expect(2, &["cannot ask"])?;
    let said = rollout(&consul, "abort app1 --yes -m errors -o json").await?;
    let view = said.expect(0, &["goes back to 0 %", "the next leader closes"])?.json()?;
    ensure!(view["result"] == "wrote" && view["share"] == 0 && view["answered"] == false, "{view}");
    ensure!(value(&consul, &key("app1")).await?["split"] == json!({"blue": 100, "green": 0}));
    // Somebody else's weights are never overwritten.
    baking(&consul, "auto").await?;
    consul.put(&key("app1"), document(70, 30)).await?;
    rollout(&consul, "abort app1 --yes").await?.expect(5, &["somebody else wrote", "weightctl rollback app1"])?;
    ensure!(value(&consul, &key("app1")).await?["weights"]["green"] == 30);
    let ended = state("r1", "done", "auto", 100, 5);
    consul.put(STATE, ended.to_string()).await?;
    rollout(&consul, "abort app1 --yes").await?.expect(0, &["nothing to do", "done"])?;
    rollout(&consul, "promote app1 --yes").await?.expect(7, &["has ended, done"])?;
    Ok(())
}

#[tokio::test]
async fn status_explain_and_log_fit_80_columns_and_have_json() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    baking(&consul, "auto").await?;
    controller(&consul).await?;
    evidence(&consul, &[("grey", "evidence 12.5; it must be below 3"), ("window", "the window is closed")]).await?;
    let detail = "a long story about what the controller saw in the blocks of both sides, with numbers";
    let event =
        json!({"rollout": "r1", "at": "2026-11-21T10:00:00Z", "what": "advanced", "detail": detail, "by": "ada"});
    consul.put("weightd/rollouts/log/app1", json!({"v": 1, "events": [event, event]}).to_string()).await?;
    for (arguments, words) in [
        ("status", ["app1", "bake", "12.5"].as_slice()),
        ("status app1", &["step", "120 of 300 s", "9 of 900", "3 of 3", "ctl-1", ">10< 50", "window:"]),
        ("explain app1", &["step 2, 50 %, when nothing holds it", "9.0 errors, 1.5 allowed", "1.000 %", "SLO 0.100 %"]),
        ("log app1", &["advanced", "ada: a long story"]),
        ("log app1 -n 1", &["advanced"]),
    ] {
        let said = rollout(&consul, arguments).await?.expect(0, words)?;
        let longest = said.out.lines().map(|line| line.chars().count()).max();
        // In a pipe, no cell of a table is cut.
        let fits = arguments == "status" || longest.is_some_and(|longest| longest <= 80);
        ensure!(fits, "{arguments}: {longest:?}\n{}", said.out);
        rollout(&consul, &format!("{arguments} -o json")).await?.json()?;
    }
    let view = rollout(&consul, "status app1 -o json").await?.json()?;
    ensure!(view["standing"] == "active" && view["fresh"] == true && view["shown"]["good"] == 120, "{view}");
    ensure!(view["controller"]["name"] == "ctl-1" && view["state"]["share"] == 10, "{view}");
    let explained = rollout(&consul, "explain app1 -o json").await?.json()?;
    ensure!(explained["paid"][0]["observed"] == 9.0 && explained["checks"][0]["slo"] == 0.001, "{explained}");
    ensure!(rollout(&consul, "log app1 -n 1 -o json").await?.json()?.as_array().map(Vec::len) == Some(1));
    Ok(())
}

#[tokio::test]
async fn a_state_of_a_newer_version_is_named_and_nothing_is_started_over_it() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    split(&consul, 10).await?;
    consul.put(SPEC, spec("r1", "watch").to_string()).await?;
    consul.put(STATE, r#"{"v":2}"#).await?;
    let words = ["rollouts/state/app1", "has version 2"];
    rollout(&consul, "status app1").await?.expect(0, &words)?;
    rollout(&consul, "status").await?.expect(0, &["unreadable"])?;
    rollout(&consul, "start app1 --to green --mode watch --yes").await?.expect(7, &words)?;
    rollout(&consul, "promote app1 --yes").await?.expect(7, &words)?;
    rollout(&consul, "watch app1").await?.expect(7, &words)?;
    Ok(())
}

#[tokio::test]
async fn plans_are_shown_at_a_given_traffic_and_files_are_checked() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let said = rollout(&consul, "plan app1 --rate 150").await?.expect(0, &["demo", "quick", "careful", "day"])?;
    ensure!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
    consul.put("weightd/plans/own", "[[step]]\nshare = 10\nbake = \"1h\"\n").await?;
    rollout(&consul, "plan app1 --rate 150").await?.expect(0, &["own"])?;
    let view = rollout(&consul, "plan app1 --rate 1 --plan quick -o json").await?.expect(0, &[])?.json()?;
    ensure!(view["plans"][0]["steps"][0]["left_out"] == true && view["plans"][0]["name"] == "quick", "{view}");
    rollout(&consul, "plan app1 --rate 150 --errors 1 --plan quick").await?.expect(0, &["above the SLO"])?;
    rollout(&consul, "plan app1 --plan quick").await?.expect(7, &["no key in Consul"])?;
    consul.put(&key("app1"), document(100, 0)).await?;
    rollout(&consul, "plan app1 --plan quick").await?.expect(3, &["no numbers", "--rate 100"])?;
    rollout(&consul, "plan app1 --rate 1 --errors 200").await?.expect(2, &["a percentage from 0 to 100"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("plan.toml");
    std::fs::write(&file, "[[step]]\nshare = 10\nbake = \"1h\"\n[window]\nallow = [\"Mon-Fri 9-17\"]\n")?;
    rollout(&consul, &format!("lint {}", file.display())).await?.expect(7, &["line 5"])?;
    std::fs::write(&file, "[[step]]\nshare = 10\nbake = \"1h\"\n")?;
    rollout(&consul, &format!("lint {}", file.display())).await?.expect(0, &["valid", "10 % 1h"])?;
    let plan = rollout(&consul, &format!("lint {} -o json", file.display())).await?.json()?;
    ensure!(plan["step"][0]["share"] == 10, "{plan}");
    std::fs::write(&file, "mode = \"atuo\"\n")?;
    rollout(&consul, &format!("lint {}", file.display())).await?.expect(7, &["`atuo`", "did you mean `auto`?"])?;
    rollout(&consul, "lint /nonexistent").await?.expect(1, &["cannot read the plan", "lint --help"])?;
    rollout(&consul, "lint careful").await?.expect(1, &["`careful` is a preset"])?;
    Ok(())
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_named_with_the_one_that_was_meant() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(100, 0)).await?;
    for verb in ["status", "log", "explain", "watch", "pause", "promote --yes", "abort --yes", "mode auto --yes"] {
        let (verb, more) = verb.split_once(' ').unwrap_or((verb, ""));
        let said = rollout(&consul, &format!("{verb} app2 {more}")).await?;
        said.expect(7, &["`app2` has no rollout", "no key in Consul", "did you mean `app1`?"])?;
    }
    // There it is, and has no rollout.
    rollout(&consul, "status app1").await?.expect(0, &["there is no rollout"])?;
    rollout(&consul, "log app1").await?.expect(0, &["no log of rollouts"])?;
    rollout(&consul, "promote app1 --yes").await?.expect(7, &["`app1` has no rollout", "weightctl rollout status"])?;
    // No verb of `rollout` has --create.
    let said = rollout(&consul, "start shop --to green --mode watch --yes").await?;
    let said = said.expect(7, &["no key in Consul", "weightctl set --help"])?;
    ensure!(!said.err.contains("--create"), "{said:?}");
    Ok(())
}
