//! A change of the weights while a rollout runs.

use anyhow::ensure;
use serde_json::json;

use super::{STATE, baking, run, split, state, value};
use crate::{common::key, harness::Consul};

#[tokio::test]
async fn a_change_in_mode_auto_must_say_that_it_ends_the_rollout() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weights.toml");
    std::fs::write(&file, "[app1.split]\nblue = 70\ngreen = 30\n")?;
    let apply = format!("apply -f {} --yes", file.display());
    for change in [
        "shift app1 green=30% --yes",
        "shift app* --all green=30% --yes",
        "set app1 blue=70 green=30 --create --yes",
        apply.as_str(),
    ] {
        baking(&consul, "auto").await?;
        let words = ["app1 has a rollout: auto, bake, 10 %, started by ada", "nothing was written", "--take-over"];
        run(&consul, change).await?.expect(7, &words)?;
        ensure!(value(&consul, &key("app1")).await?["split"]["green"] == 10, "{change}");
        // What writes nothing ends nothing.
        run(&consul, &change.replace("--yes", "--dry-run")).await?.expect(0, &["has a rollout", "dry run"])?;
        run(&consul, &format!("{change} --take-over")).await?.expect(0, &["has a rollout", "written"])?;
        let document = value(&consul, &key("app1")).await?;
        ensure!(document["split"]["green"] == 30 || document["weights"]["green"] == 30, "{document}");
    }
    Ok(())
}

#[tokio::test]
async fn a_change_in_watch_and_guard_only_names_the_rollout() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    for mode in ["watch", "guard"] {
        baking(&consul, mode).await?;
        let said = run(&consul, "shift app1 green=30% --yes").await?;
        said.expect(0, &["has a rollout", "it judges these weights from now on", "written"])?;
    }
    // Before it moves, a rollout begins again from what people write.
    let index = split(&consul, 0).await?;
    consul.put(STATE, state("r1", "preflight", "auto", 0, index).to_string()).await?;
    run(&consul, "shift app1 green=5% --yes").await?.expect(0, &["it begins again from these weights"])?;
    // What has ended is not named.
    consul.put(STATE, state("r1", "done", "auto", 0, index).to_string()).await?;
    let said = run(&consul, "shift app1 green=6% --yes").await?.expect(0, &[])?;
    ensure!(!said.err.contains("rollout"), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_rollback_never_asks_about_a_rollout() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    baking(&consul, "auto").await?;
    let split = |green: u32| json!({"split": {"blue": 100 - green, "green": green}});
    let entry = |way: &str, green: u32| json!({"way": way, "to": split(green)});
    let history = json!({"v": 1, "entries": [entry("rollout", 10), entry("create", 0)]});
    consul.put("weightd/history/app1", history.to_string()).await?;
    let said = run(&consul, "rollback app1 --yes").await?.expect(0, &["written"])?;
    ensure!(!said.err.contains("has a rollout"), "{said:?}");
    ensure!(value(&consul, &key("app1")).await?["split"]["green"] == 0);
    Ok(())
}
