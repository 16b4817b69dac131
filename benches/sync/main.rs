//! What weightd costs, measured against the least that a program with its duty could do, in one run on a real Consul
//! and a real HAProxy. `make bench` runs it.
//!
//! Each side has a HAProxy and a prefix of its own, and one Consul serves them all; rounds are interleaved, so that what
//! else the machine does hits all sides. Read the ratios: times are worth little on a busy machine.
//!
//! Variables: `CASE` (default: all, with commas), `ROUNDS`, `BACKENDS` (numbers with commas), `SECONDS`, `JSON=1`, and
//! `AGAINST`, the path of another weightd that `one-change` measures too. Exits 1 when a result is wrong, such as a lost
//! change, and never because of a time: those are for people to judge.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::Ordering,
    thread,
};

use anyhow::{Context as _, bail};

#[path = "../../tests/harness/mod.rs"]
pub mod harness;

pub mod facts;
pub mod fleet;
pub mod floor;
pub mod hand_edit;
pub mod http;
pub mod idle;
pub mod mass;
pub mod observer;
pub mod one_change;
pub mod peer;
pub mod process;
pub mod reload;
pub mod setup;
pub mod stats;
pub mod storm;
pub mod sustained;
pub mod table;
pub mod traffic;

use table::Report;

/// All cases, in the order in which they run.
const CASES: [&str; 12] = [
    "facts",
    "one-change",
    "among",
    "sustained",
    "storm",
    "hand-edit",
    "reload",
    "mass",
    "first",
    "idle",
    "fleet",
    "traffic",
];

/// What the environment asks for.
pub struct Options {
    cases: Vec<String>,
    rounds: Option<usize>,
    backends: Option<Vec<usize>>,
    seconds: Option<u64>,
    against: Option<PathBuf>,
    json: bool,
}

impl Options {
    fn from_env() -> anyhow::Result<Self> {
        let get = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let cases = get("CASE").map_or_else(Vec::new, |cases| cases.split(',').map(str::to_owned).collect());
        if let Some(unknown) = cases.iter().find(|case| !CASES.contains(&case.as_str())) {
            bail!("there is no case {unknown}; there are {}", CASES.join(", "));
        }
        let backends = get("BACKENDS").map(|list| list.split(',').map(str::parse).collect::<Result<_, _>>());
        Ok(Self {
            cases,
            rounds: get("ROUNDS").map(|rounds| rounds.parse()).transpose().context("ROUNDS is no number")?,
            seconds: get("SECONDS").map(|seconds| seconds.parse()).transpose().context("SECONDS is no number")?,
            backends: backends.transpose().context("BACKENDS is no list of numbers")?,
            against: get("AGAINST").map(PathBuf::from),
            json: get("JSON").is_some_and(|json| json == "1"),
        })
    }

    fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| wanted == case)
    }
}

#[expect(clippy::print_stderr, reason = "the table goes to the standard output")]
fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let outcome = match arguments[..] {
        ["--floor", consul, prefix, socket] => floor::run(consul, prefix, Path::new(socket), false).map(|()| true),
        ["--floor-that-looks", consul, prefix, socket] => {
            floor::run(consul, prefix, Path::new(socket), true).map(|()| true)
        }
        ["--send", socket, file] => peer::send(Path::new(socket), Path::new(file)).map(|()| true),
        // Cargo adds an argument of its own.
        [] | ["--bench"] => run(),
        _ => Err(anyhow::anyhow!("what to do is told by variables: CASE, ROUNDS, BACKENDS, SECONDS, JSON")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the table, and what goes on meanwhile")]
fn run() -> anyhow::Result<bool> {
    let options = Options::from_env()?;
    harness::program::QUIET.store(true, Ordering::Relaxed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report { setting: setting()?, ..Report::default() };
    for case in CASES.into_iter().filter(|case| options.wants(case)) {
        eprintln!("bench: {case}");
        runtime.block_on(async {
            match case {
                "facts" => facts::run(&mut report),
                "one-change" => one_change::alone(&options, &mut report).await,
                "among" => one_change::among(&options, &mut report).await,
                "sustained" => sustained::run(&options, &mut report).await,
                "storm" => storm::run(&options, &mut report).await,
                "hand-edit" => hand_edit::run(&options, &mut report).await,
                "reload" => reload::run(&options, &mut report).await,
                "mass" => mass::changed(&options, &mut report).await,
                "first" => mass::first(&options, &mut report).await,
                "idle" => idle::run(&options, &mut report).await,
                "fleet" => fleet::run(&options, &mut report).await,
                "traffic" => traffic::run(&options, &mut report).await,
                _ => bail!("no such case"),
            }
        })?;
    }
    report.setting.push(("load at the end", load()));
    println!("{}", if options.json { serde_json::to_string_pretty(&report)? } else { report.text() });
    Ok(report.wrong.is_empty())
}

/// With what the figures are to be read.
fn setting() -> anyhow::Result<Vec<(&'static str, String)>> {
    let says = |name: &str, argument: &str| {
        let output = std::process::Command::new(harness::program::server(name)?).arg(argument).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned).with_context(|| format!("{name} says nothing"))
    };
    let cores = thread::available_parallelism()?;
    let driver = if table::UNOPTIMIZED {
        "not optimized, so there are no ratios: its floor is too slow"
    } else {
        "optimized as the release"
    };
    Ok(vec![
        ("driver and floor", driver.to_owned()),
        ("HAProxy", says("haproxy", "-v")?),
        ("Consul", says("consul", "version")?),
        ("cores", cores.to_string()),
        ("load at the start", load()),
    ])
}

/// How busy the machine was over the last minute: above nothing at the start, times are worth less.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
