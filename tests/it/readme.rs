//! What the pages promise is what the program does: configuration, documents, metrics, reasons and versions.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::sync::watch;
use weightd::{
    consul::watch::{Feed, Link, WatchHandle},
    rolloutd::{self, webhooks::Message},
    weightd::{
        config::Config,
        instance::Instance,
        metrics::Metrics,
        session::{Session, Timing},
        status,
    },
};
use weightd_core::{
    backend::Cause,
    desired::{Document, PatternShare},
    model::{BackendName, Moment},
    reasons,
    rollout::{EventKind, plan::PlanFile, source::NoData},
    stored::Stored,
    wire::status::FleetStatus,
};

use crate::{
    harness::program,
    pages::{blocks, page, pages},
};

/// What the package installs as /etc/weightd/weightd.toml.
const PACKAGED: &str = include_str!("../../src/weightd/config/default.toml");

/// Loads a configuration as weightd does.
fn load(text: &str) -> anyhow::Result<Config> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weightd.toml");
    std::fs::write(&file, text)?;
    Config::load(Some(&file), &|_| None).with_context(|| text.to_owned())
}

#[test]
fn the_whole_configuration_is_the_default_one() {
    assert!(blocks("toml").contains(&Config::default_toml().trim_end()), "it differs from `--print-default-config`");
}

#[test]
fn the_whole_configuration_of_rolloutd_is_the_default_one() {
    let default = rolloutd::config::Config::default_toml();
    let blocks = page("docs/configuration.md").blocks("toml rolloutd");
    let texts: Vec<_> = blocks.iter().map(|block| block.text).collect();
    assert_eq!(texts, [default.trim_end()], "it differs from the printed default");
}

/// Loads a configuration as rolloutd does.
fn load_rolloutd(text: &str) -> anyhow::Result<rolloutd::config::Config> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rolloutd.toml");
    std::fs::write(&file, text)?;
    rolloutd::config::Config::load(Some(&file), &|_| None).with_context(|| text.to_owned())
}

#[test]
fn each_configuration_of_rolloutd_is_valid_alone_and_in_the_packaged_file() -> anyhow::Result<()> {
    let packaged = rolloutd::config::Config::default_toml();
    for block in blocks("toml rolloutd") {
        load_rolloutd(block)?;
        if block != packaged.trim_end() {
            load_rolloutd(&format!("{packaged}\n{block}\n"))?;
        }
    }
    Ok(())
}

#[test]
fn each_plan_is_valid() -> anyhow::Result<()> {
    for block in blocks("toml plan") {
        let plan: PlanFile = toml::from_str(block).with_context(|| block.to_owned())?;
        plan.resolve().map_err(|problem| anyhow::anyhow!("{problem:?}\n{block}"))?;
    }
    Ok(())
}

#[test]
fn a_notification_looks_as_its_page_shows_it() -> anyhow::Result<()> {
    let shown = page("docs/notifications.md").blocks("json webhook").pop().context("an example")?;
    let message = Message {
        kind: EventKind::RolledBack,
        backend: BackendName::new("web")?,
        rollout: "5f0c".to_owned(),
        share: Some(PatternShare::default()),
        detail: "4 errors of 100, allowed 0.3".to_owned(),
        by: None,
        at: "2026-11-26T19:47:16Z".parse()?,
    };
    assert_eq!(message.json(), shown.text);
    Ok(())
}

#[test]
fn the_page_of_notifications_names_every_event() {
    let text = &page("docs/notifications.md").text;
    for kind in EventKind::ALL {
        assert!(text.contains(&format!("`{}`", kind.as_str())), "{}", kind.as_str());
    }
}

#[test]
fn the_page_of_sources_names_every_reason_and_no_other() {
    let text = &page("docs/sources.md").text;
    let table = text.split("| word | cause").nth(1).unwrap_or_default();
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), NoData::WORDS);
}

#[test]
fn each_configuration_is_valid() -> anyhow::Result<()> {
    for block in blocks("toml") {
        load(block)?;
    }
    Ok(())
}

#[test]
fn each_configuration_works_in_the_packaged_file_as_its_page_says() -> anyhow::Result<()> {
    assert_eq!(PACKAGED, Config::default_toml());
    let mut tried = 0;
    let parts = pages().iter().flat_map(|page| page.blocks("toml")).filter(|block| block.text != PACKAGED.trim_end());
    for block in parts {
        let says = block.introduction.to_lowercase();
        if says.contains("append") {
            load(&format!("{PACKAGED}\n{}\n", block.text))?;
        } else {
            ensure!(says.contains("change th"), "append or change? {}", block.introduction);
            let text = changed(block.text)?;
            load(&text)?;
            let (all, part): (toml::Table, toml::Table) = (toml::from_str(&text)?, toml::from_str(block.text)?);
            ensure!(contains(&all.into(), &part.into()), "{text}");
        }
        tried += 1;
    }
    ensure!(tried > 3, "only {tried} parts of a configuration are found");
    Ok(())
}

/// The packaged file with these lines in place of its own ones, which may be commented out.
fn changed(block: &str) -> anyhow::Result<String> {
    let mut lines: Vec<String> = PACKAGED.lines().map(str::to_owned).collect();
    let mut section = "";
    for line in block.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let key = line.split(" = ").next().unwrap_or_default();
        let mut inside = "";
        let mut found = Vec::new();
        for (number, other) in PACKAGED.lines().enumerate() {
            inside = if other.starts_with('[') { other } else { inside };
            let other = other.strip_prefix("# ").unwrap_or(other);
            if inside == section && other.starts_with(&format!("{key} = ")) {
                found.push(number);
            }
        }
        let [number] = found[..] else { anyhow::bail!("not one line of {key} in {section}") };
        line.clone_into(&mut lines[number]);
    }
    Ok(lines.join("\n"))
}

/// Whether `all` has every value of `part`.
fn contains(all: &toml::Value, part: &toml::Value) -> bool {
    match (all, part) {
        (toml::Value::Table(all), toml::Value::Table(part)) => {
            part.iter().all(|(key, part)| all.get(key).is_some_and(|all| contains(all, part)))
        }
        (toml::Value::Array(all), toml::Value::Array(part)) => {
            all.len() == part.len() && all.iter().zip(part).all(|(all, part)| contains(all, part))
        }
        (all, part) => all == part,
    }
}

#[test]
fn each_document_is_valid() {
    let documents: Vec<_> = blocks("json").into_iter().flat_map(str::lines).collect();
    assert!(!documents.is_empty());
    for document in documents {
        Document::parse(document.as_bytes()).unwrap_or_else(|error| panic!("{error}: {document}"));
    }
}

#[test]
fn every_metric_and_every_reason_is_promised_and_no_other() {
    let table = &page("docs/metrics.md").text;
    let text = everything_counted();
    let named = |line: &str| line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')).map(named_as_promised);
    let exposed: BTreeSet<String> = text.lines().filter_map(named).collect();
    let promised: BTreeSet<String> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("weightd_"))
        .flat_map(|line| line.split('`').filter(|code| code.starts_with("weightd_")))
        .map(|code| code.split('{').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(exposed, promised);
    for reason in reasons::WORDS {
        assert!(table.contains(&format!("`{reason}`")), "{reason}");
    }
}

/// The metrics of a node on which everything that is counted has happened.
fn everything_counted() -> String {
    let (_, link) = watch::channel(Link { errors: [("timeout", 1)].into(), ..Link::default() });
    let refresh = Arc::new(watch::channel(()).0);
    let followed = WatchHandle { feed: watch::channel(Feed::default()).1, link, refresh };
    let address = "unix:/nowhere".parse().expect("an address");
    let second = Duration::from_secs(1);
    let timing = Timing { resync: second, process_poll: second };
    let mut session = Session::new(Stored::default(), false, timing, Moment::default());
    session.errors.insert("timeout", 1);
    let instance = Instance::new("edge".to_owned(), address, "weightd/".to_owned(), &followed, Arc::default(), session);
    let node = status::Node {
        name: "lb-1".to_owned(),
        mode: "enforce",
        consul: String::new(),
        datacenter: None,
        problems: Vec::new(),
    };
    let mut status = status::of(&node, &[Arc::new(instance)], &[], Moment::default());
    status.fleet.push(FleetStatus { root: "weightd/".to_owned(), state: "published".into(), ..FleetStatus::default() });
    let metrics = Metrics::new();
    metrics.weight_changed("edge", Cause::Document);
    metrics.fleet_failed("weightd/", "timeout");
    metrics.counters_failed("weightd/", "timeout");
    metrics.synced("edge", Duration::from_millis(1));
    metrics.text(&status).expect("memory takes it")
}

/// As a query names it: counters end in `_total`.
fn named_as_promised((name, kind): (&str, &str)) -> String {
    if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
}

#[test]
fn both_programs_name_their_version_as_promised() {
    for name in ["weightd", "weightctl"] {
        let output = std::process::Command::new(program::binary(name).expect("it is built")).arg("--version").output();
        let text = String::from_utf8(output.expect("it runs").stdout).expect("it is text");
        let commit = text.strip_prefix(&format!("{name} {}", env!("CARGO_PKG_VERSION"))).expect(&text).trim_end();
        let digits = commit.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
        // Where it was built of no checkout, there is none.
        let named = digits.is_some_and(|digits| digits.len() == 7 && digits.chars().all(|c| c.is_ascii_hexdigit()));
        assert!(commit.is_empty() || named, "{text}");
    }
}
