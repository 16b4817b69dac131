//! What the README says is what the program does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;
use weightd::{
    consul::watch::{Feed, Link, WatchHandle},
    weightd::{
        config::Config,
        instance::Instance,
        metrics::Metrics,
        session::{Session, Timing},
        status,
    },
};
use weightd_core::{backend::Cause, desired::Document, model::Moment, reasons, stored::Stored};

use crate::harness::program;

const README: &str = include_str!("../../README.md");

/// The blocks of that language, without their fences.
pub(crate) fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn its_whole_configuration_is_the_default_one() {
    assert!(blocks("toml").contains(&Config::default_toml().trim_end()), "it differs from `--print-default-config`");
}

#[test]
fn each_of_its_configurations_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    for (number, block) in blocks("toml").into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.toml"));
        std::fs::write(&file, block).unwrap();
        Config::load(Some(&file), &|_| None).unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
}

#[test]
fn each_of_its_documents_is_valid() {
    let documents: Vec<_> = blocks("json").into_iter().flat_map(str::lines).collect();
    assert!(!documents.is_empty());
    for document in documents {
        Document::parse(document.as_bytes()).unwrap_or_else(|error| panic!("{error}: {document}"));
    }
}

#[test]
fn every_metric_and_every_reason_is_promised_and_no_other() {
    let text = everything_counted();
    let named = |line: &str| line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')).map(named_as_promised);
    let exposed: BTreeSet<String> = text.lines().filter_map(named).collect();
    let promised: BTreeSet<String> = README
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("weightd_"))
        .flat_map(|line| line.split('`').filter(|code| code.starts_with("weightd_")))
        .map(|code| code.split('{').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(exposed, promised);
    for reason in reasons::WORDS {
        assert!(README.contains(&format!("`{reason}`")), "{reason}");
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
    let status = status::of(&node, &[Arc::new(instance)], &[], Moment::default());
    let metrics = Metrics::new();
    metrics.weight_changed("edge", Cause::Document);
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
