//! What a controller counts.

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use serde_json::json;
use weightd_core::rollout::Phase;

use super::stage::Stage;
use crate::{
    harness::{Port, eventually},
    pages::{page, pages},
};

/// The metrics that docs/metrics.md promises of rolloutd, with their labels.
fn promised() -> BTreeSet<String> {
    let rows = page("docs/metrics.md").text.lines().filter(|line| line.starts_with("| "));
    let names = rows.flat_map(|row| row.split('`').filter(|code| code.starts_with("rolloutd_")));
    names.map(str::to_owned).collect()
}

/// The metric of a sample, as the page names it: `name{label,label}`.
fn named(sample: &str) -> Option<String> {
    let Some((name, rest)) = sample.split_once('{') else { return sample.split(' ').next().map(str::to_owned) };
    let labels = rest.split_once('}')?.0.split("\",").filter_map(|label| label.split("=\"").next());
    Some(format!("{name}{{{}}}", labels.collect::<Vec<_>>().join(",")))
}

#[tokio::test]
async fn every_metric_of_a_leader_is_promised_and_no_other() -> anyhow::Result<()> {
    let stage = Stage::new(1, 60).await?;
    // A source and a webhook that do not answer.
    let nobody = Port::free()?;
    let query = r#"'sum(increase(requests_total{cluster="$label"}[$window]))'"#;
    stage.rolloutd.add(&format!(
        "[sources.metrics]\nurl = \"http://127.0.0.1:{nobody}\"\nscrape_interval = \"1s\"\n\
         [checks.slow]\nsource = \"metrics\"\nwindow = \"10s\"\ntotal = {query}\nbad = {query}\n\
         [[webhook]]\nname = \"chat\"\nurl = \"http://127.0.0.1:{nobody}/hook\"\n"
    ))?;
    let check = json!({"use": "slow", "labels": {"from": "blue", "to": "green"}});
    let step = json!({"share": 50, "bake": "20s", "must_exclude": 0});
    stage.start_plan("r1", "auto", &json!({"step": [step], "check": {"latency": check}})).await?;
    stage.becomes(Phase::Bake, 50, 150).await?;
    eventually(Duration::from_secs(60), "everything that is promised is counted", async || {
        let (code, text) = stage.rolloutd.get("/metrics").await?;
        ensure!(code == 200, "{code}");
        let exposed: BTreeSet<_> = text.lines().filter(|line| !line.starts_with('#')).filter_map(named).collect();
        let mut promised = promised();
        // The page is another process, with metrics of its own.
        promised.retain(|name| !name.starts_with("rolloutd_page_"));
        let missing: Vec<_> = promised.difference(&exposed).collect();
        let more: Vec<_> = exposed.difference(&promised).collect();
        ensure!(missing.is_empty() && more.is_empty(), "promised only: {missing:?}, exposed only: {more:?}");
        Ok(())
    })
    .await
}

#[test]
fn every_page_names_only_metrics_that_are_promised() {
    let known: BTreeSet<_> = promised().iter().map(|name| name.split('{').next().unwrap_or(name).to_owned()).collect();
    assert!(known.len() > 10, "{known:?}");
    for page in pages() {
        let prose = page.prose();
        let spans = prose.split('`').skip(1).step_by(2).filter(|span| span.starts_with("rolloutd_"));
        for span in spans {
            let name = span.split('{').next().unwrap_or(span);
            assert!(known.contains(name), "{}: {span}", page.path);
        }
    }
}

#[test]
fn the_page_of_metrics_names_every_phase() {
    let text = &page("docs/metrics.md").text;
    let row = text.lines().find(|line| line.contains("rolloutd_rollouts{phase}")).expect("the row is there");
    for phase in Phase::ALL {
        assert!(row.contains(&format!("`{}`", phase.as_str())), "{}", phase.as_str());
    }
}
