//! Histories after very many writes: bounded, right, readable, and in step with the documents.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use weightd::{
    consul::{Client, Layer},
    documents::{
        Documents, Written,
        edit::{self, Intent},
    },
};
use weightd_core::{
    history::{History, Way},
    model::{BackendName, Root, ServerName, Weight},
};

use crate::harness::{Consul, weightd::weightctl};

const KEY: &str = "weightd/weights/app";
const HISTORY: &str = "weightd/history/app";

fn documents(consul: &Consul) -> anyhow::Result<Documents> {
    let settings = Layer { address: Some(consul.address().parse()?), ..Layer::default() }.settings()?;
    Ok(Documents::new(Client::new(settings)?, &Root::default()))
}

/// Writes green as the operator `by`, as `weightctl set` does.
async fn set(documents: &Documents, by: &str, green: u64, reason: Option<String>) -> anyhow::Result<Written> {
    let backend = BackendName::new("app")?;
    let known = documents.context(&backend).await?;
    let weights = [("blue", 100), ("green", green)];
    let weights =
        weights.into_iter().map(|(server, weight)| anyhow::Ok((ServerName::new(server)?, Weight::new(weight)?)));
    let intent = Intent {
        by: by.to_owned(),
        reason,
        at: jiff::Timestamp::now().to_string(),
        create: true,
        way: Way::Set,
        history: known.entries(),
        ..Intent::default()
    };
    let edit = edit::set(&backend, known.stored.as_ref(), &weights.collect::<Result<_, _>>()?, &intent)?;
    Ok(documents.commit(&backend, &edit, &known, false).await?)
}

async fn green(consul: &Consul) -> anyhow::Result<Value> {
    let document: Value = serde_json::from_slice(&consul.get(KEY).await?.context("no document")?)?;
    Ok(document["weights"]["green"].clone())
}

/// The entries of the history as they are stored, newest first.
async fn entries(consul: &Consul) -> anyhow::Result<Vec<Value>> {
    let value = consul.get(HISTORY).await?.context("no history")?;
    ensure!(value.len() <= History::MAX_BYTES, "{} bytes", value.len());
    let history: Value = serde_json::from_slice(&value)?;
    let entries = history["entries"].as_array().context("no entries")?.clone();
    ensure!(entries.len() <= History::MAX_ENTRIES, "{} entries", entries.len());
    Ok(entries)
}

async fn shown(consul: &Consul, arguments: &[&str]) -> anyhow::Result<String> {
    let output = weightctl(&[("CONSUL_HTTP_ADDR", &consul.address())], arguments).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn after_1000_writes_a_history_is_bounded_right_and_readable() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let documents = documents(&consul)?;
    let mut indexes = Vec::new();
    for number in 0..1000_u64 {
        // Reasons of every length, also with what JSON escapes.
        let length = usize::try_from(number * 7 % 600)?;
        let reason = (length > 0).then(|| "\"größer\" \u{1b}[2J ".chars().cycle().take(length).collect());
        let Written::Yes { index, without } = set(&documents, "alice", number % 257, reason).await? else {
            anyhow::bail!("write {number} was not written")
        };
        ensure!(without.is_empty(), "{without:?}");
        indexes.push(index);
        if number % 20 == 0 {
            entries(&consul).await?;
        }
    }
    let stored = entries(&consul).await?;
    assert_eq!(stored[0]["to"]["weights"]["green"], green(&consul).await?);
    let listed: Value = serde_json::from_str(&shown(&consul, &["history", "app", "-o", "json"]).await?)?;
    let listed = listed.as_array().context("no list")?;
    assert_eq!(listed.len(), stored.len());
    // The newest entries are exactly the last writes; the last entry may be the anchor of a rollback.
    let newest: Vec<_> = indexes.iter().rev().collect();
    for (position, (entry, index)) in listed.iter().zip(&newest).enumerate() {
        if entry["anchor"] != true {
            assert_eq!(entry["index"], **index, "entry {position}");
        }
    }
    ensure!(listed.len() > 5, "{}", listed.len());
    let table = shown(&consul, &["history", "app"]).await?;
    assert_eq!(table.lines().count(), listed.len() + 1, "{table}");
    ensure!(!table.contains('\u{1b}'), "text of a writer reaches the terminal");
    Ok(())
}

#[tokio::test]
async fn two_operators_that_race_100_times_lose_no_update_and_the_history_is_in_step() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let (alice, bob) = (documents(&consul)?, documents(&consul)?);
    set(&alice, "alice", 0, None).await?;
    let (mut both, mut conflicts) = (0, 0);
    for round in 0..100_u64 {
        let before = consul.index(KEY).await?;
        let (first, second) = (2 * round % 256 + 1, (2 * round + 1) % 256 + 1);
        let ended = tokio::try_join!(set(&alice, "alice", first, None), set(&bob, "bob", second, None))?;
        let mut written = Vec::new();
        for (ended, green, by) in [(ended.0, first, "alice"), (ended.1, second, "bob")] {
            match ended {
                Written::Yes { index, .. } => written.push((index, green, by)),
                // Written, and replaced before it was read back.
                Written::Superseded => written.push((0, green, by)),
                Written::Conflict => conflicts += 1,
                Written::Frozen(_) => anyhow::bail!("nobody froze it"),
            }
        }
        ensure!(!written.is_empty(), "one of two wins");
        both += usize::from(written.len() == 2);
        // The newest entries are these writes, in their order, and nothing else.
        let stored = entries(&consul).await?;
        assert_eq!(stored[0]["to"]["weights"]["green"], green(&consul).await?);
        let new: Vec<_> = stored.iter().take(written.len()).collect();
        for (_, green, by) in &written {
            let found = new.iter().any(|entry| entry["to"]["weights"]["green"] == *green && entry["by"] == *by);
            ensure!(found, "round {round}: {by} wrote {green}: {stored:?}");
        }
        ensure!(stored.iter().all(|entry| entry["way"] != "direct"), "{stored:?}");
        let older = &stored[written.len()];
        ensure!(older["index"] == before, "round {round}: {older} is not the write before, {before}");
    }
    eprintln!("100 races: {both} times both wrote one after the other, {conflicts} conflicts");
    Ok(())
}

#[tokio::test]
async fn a_settle_that_races_with_writes_marks_no_state_of_before() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let (alice, bob) = (documents(&consul)?, documents(&consul)?);
    set(&alice, "alice", 0, None).await?;
    let backend = BackendName::new("app")?;
    for round in 1..=200 {
        let (settled, written) = tokio::join!(bob.settle(&backend), set(&alice, "alice", round % 257, None));
        settled?;
        written?;
        // A write past the tools would be one, and there was none.
        let ways: Vec<_> = entries(&consul).await?.iter().map(|entry| entry["way"].clone()).collect();
        ensure!(!ways.contains(&Value::from("direct")), "round {round}: {ways:?}");
    }
    Ok(())
}
