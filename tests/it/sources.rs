//! Named checks on a real metrics system: what rolloutd makes of its answers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use weightd::{
    base::shutdown::Tasks,
    rolloutd::{
        config::Config,
        sources::{Sources, Wanted},
    },
};
use weightd_core::{
    model::{BackendName, Timestamp},
    rollout::observe::SourceCell,
};

use crate::harness::{
    eventually,
    metrics::{Counting, Kind, MetricsSystem},
    tls::Authority,
};

/// Windows of 10 s with one scrape a second, complete six seconds after their end; on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

const ALL: &str = r#"sum(increase(requests_total{cluster="$label"}[$window]))"#;
const FAILED: &str = r#"sum(increase(requests_total{cluster="$label", code=~"5.."}[$window]))"#;

/// The checks: name, `total`, `bad`.
fn checks() -> [(&'static str, &'static str, String); 7] {
    [
        ("errors", ALL, FAILED.to_owned()),
        ("several", r#"increase(requests_total{cluster="$label"}[$window])"#, FAILED.to_owned()),
        ("missing", ALL, FAILED.replace("requests_total", "request_total")),
        ("range", r#"requests_total{cluster="$label"}[$window]"#, FAILED.to_owned()),
        ("nan", ALL, format!("{FAILED} * (0 / 0)")),
        ("wrong", ALL, format!("{FAILED} +")),
        ("swapped", FAILED, ALL.to_owned()),
    ]
}

fn config(source: &str) -> anyhow::Result<Config> {
    let mut text = format!("[sources.metrics]\n{source}scrape_interval = \"1s\"\n");
    for (name, total, bad) in checks() {
        let check =
            format!("[checks.{name}]\nsource = \"metrics\"\nwindow = \"10s\"\ntotal = '{total}'\nbad = '{bad}'");
        writeln!(text, "{check}")?;
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("rolloutd.toml");
    std::fs::write(&file, &text)?;
    Config::load(Some(&file), &|_| None).context(text)
}

fn wanted() -> anyhow::Result<Vec<Wanted>> {
    let labels =
        BTreeMap::from([("from", "blue"), ("to", "green")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let wanted = |(name, ..): (&str, _, _)| Wanted {
        name: name.to_owned(),
        uses: name.to_owned(),
        labels: labels.clone(),
        since: Timestamp::from_seconds(now),
    };
    Ok(checks().map(wanted).into())
}

/// The newest answer of a check.
fn answer(sources: &Sources, name: &str) -> anyhow::Result<Result<SourceCell, String>> {
    let answers = sources.latest();
    answers.get("web").and_then(|checks| checks.get(name)).cloned().with_context(|| format!("no answer of {name}"))
}

/// Waits until the check has no data for a reason that contains the text.
async fn no_data(sources: &Sources, name: &str, reason: &str) -> anyhow::Result<()> {
    eventually(PATIENCE, reason, async || match answer(sources, name)? {
        Err(text) if text.contains(reason) => Ok(()),
        other => bail!("{name}: {other:?}"),
    })
    .await
}

async fn named_checks(kind: Kind) -> anyhow::Result<()> {
    let counting = Counting::start().await?;
    let mut system = MetricsSystem::start(kind, counting.exporter()).await?;
    let tasks = Tasks::default();
    let sources = Sources::start(&config(&system.source())?, &tasks);
    sources.set([(BackendName::new("web")?, wanted()?)].into());

    let cell = eventually(PATIENCE, "both sides are counted", async || match answer(&sources, "errors")? {
        Ok(cell) => Ok(cell),
        Err(reason) => bail!(reason),
    });
    let SourceCell { cell, block, covers: _ } = cell.await?;
    // 100 and 20 requests a second, and extrapolation of a second at each end.
    ensure!((900..=1100).contains(&cell.from.n) && (180..=220).contains(&cell.to.n), "{cell:?}");
    ensure!((8..=12).contains(&cell.from.e) && (17..=23).contains(&cell.to.e), "{cell:?}");
    let age = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - block * 10;
    ensure!((16..60).contains(&age), "the window began {age} s ago");

    no_data(&sources, "several", "`total` of `to`: the query gives 2 series").await?;
    no_data(&sources, "missing", "`bad` of `to`: the query finds no series; no data is not zero").await?;
    no_data(&sources, "range", "`total` of `to`: the query gives a matrix").await?;
    no_data(&sources, "swapped", "requests are bad; the two queries count different things").await?;
    let (nan, wrong) = match kind {
        Kind::Prometheus => ("the query gives NaN", "the source rejects the query (400)"),
        Kind::VictoriaMetrics => ("the query finds no series", "the source rejects the query (422)"),
    };
    no_data(&sources, "nan", nan).await?;
    no_data(&sources, "wrong", wrong).await?;

    // A cluster that is gone is no data. Its rate would look fine for a minute and longer.
    counting.stop_green();
    no_data(&sources, "errors", "the newest sample of `to`: ").await?;
    system.stop().await?;
    no_data(&sources, "errors", "the source cannot be reached").await?;
    let results = sources.results();
    for word in ["ok", "series", "empty", "shape", "contradiction", "query", "unreachable"] {
        ensure!(results.contains_key(&("metrics".to_owned(), word)), "{word}: {results:?}");
    }
    tasks.stop().await;
    Ok(())
}

/// Waits until the check has no data for a reason that contains the text, with a source of these lines.
async fn no_data_of(source: &str, reason: &str) -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let sources = Sources::start(&config(source)?, &tasks);
    let mut wanted = wanted()?;
    for check in &mut wanted {
        check.since = Timestamp::default();
    }
    sources.set([(BackendName::new("web")?, wanted)].into());
    no_data(&sources, "errors", reason).await?;
    tasks.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_another_server_or_denies_access_is_no_data() -> anyhow::Result<()> {
    let counting = Counting::start().await?;
    let system = MetricsSystem::start(Kind::Prometheus, counting.exporter()).await?;
    let source = system.source();
    no_data_of(&source.replace("secret", "wrong"), "the source denies access (401)").await?;
    no_data_of(&source.replace("https://", "http://").replace("ca_file", "# ca_file"), "is not of the API").await?;
    let dir = tempfile::tempdir()?;
    let other = dir.path().join("other.pem");
    std::fs::write(&other, Authority::new("the CA of the metrics system")?.pem())?;
    let lines = source.lines().filter(|line| !line.starts_with("ca_file")).map(|line| format!("{line}\n"));
    let source = lines.collect::<String>() + &format!("ca_file = \"{}\"\n", other.display());
    no_data_of(&source, "the source has no valid certificate").await
}

#[tokio::test]
async fn prometheus_gives_counts_or_a_reason() -> anyhow::Result<()> {
    named_checks(Kind::Prometheus).await
}

#[tokio::test]
#[ignore = "needs VictoriaMetrics: `make metrics-test`"]
async fn victoriametrics_gives_counts_or_a_reason() -> anyhow::Result<()> {
    named_checks(Kind::VictoriaMetrics).await
}
