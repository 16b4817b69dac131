//! Rules about the source that the compiler does not enforce. The tests read the source.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The maximum number of lines of a file.
const MAX_LINES: usize = 500;

/// Crates that do I/O, read a clock, or depend on one that does. `weightd-core` must not depend on them.
const IO_CRATES: [&str; 14] = [
    "tokio",
    "tokio-util",
    "reqwest",
    "hyper",
    "axum",
    "tracing",
    "tracing-subscriber",
    "anyhow",
    "clap",
    "backoff",
    "jiff",
    "rustix",
    "socket2",
    "weightd",
];

/// Files outside `weightd-core` that also decide. They must not do I/O either.
const PURE: [&str; 34] = [
    "documents/changes.rs",
    "documents/edit.rs",
    "documents/stored.rs",
    "documents/view.rs",
    "haproxy/command.rs",
    "haproxy/reply.rs",
    "haproxy/stat.rs",
    "haproxy/state_file.rs",
    "weightctl/import/decide.rs",
    "weightctl/import/kv.rs",
    "weightctl/preview.rs",
    "weightctl/status/report.rs",
    "page/view/actions.rs",
    "page/view/chart.rs",
    "page/view/checks.rs",
    "page/view/detail.rs",
    "page/view/facts.rs",
    "page/view/fleet.rs",
    "page/view/moves.rs",
    "page/view/plans.rs",
    "page/view/row.rs",
    "page/view/sides.rs",
    "page/view/words.rs",
    "weightd/fleet/counters/reading.rs",
    "weightd/session.rs",
    "weightd/session/applying.rs",
    "weightd/session/connection.rs",
    "weightd/session/exchange.rs",
    "weightd/session/pausing.rs",
    "weightd/session/process.rs",
    "weightd/session/queue.rs",
    "weightd/session/reading.rs",
    "weightd/session/server_state.rs",
    "weightd/session/inputs.rs",
];

/// A source file: its text without comments and tests.
pub(crate) struct Source {
    /// The path below `src`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: Vec<String>,
}

pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 20, "there is no source at {}", root.display());
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let path = file.strip_prefix(&root).expect("the file is below the root").to_string_lossy().into_owned();
            let tests_only = path.ends_with("/tests.rs") || path.contains("/tests/");
            let code = if tests_only { Vec::new() } else { code(&text) };
            Source { path, text, code }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry of a directory").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines of code: without comments, and without the module of tests, which is the last item.
fn code(text: &str) -> Vec<String> {
    let mut lines = text.lines().map(str::trim).peekable();
    let mut code = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.contains("mod ")) {
            break;
        }
        if !line.starts_with("//") {
            code.push(line.to_owned());
        }
    }
    code
}

/// The positions of the lines for which `found` is true.
fn places(sources: &[Source], found: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = sources.iter().flat_map(|source| source.code.iter().map(move |line| (&source.path, line)));
    lines.filter(|(_, line)| found(line)).map(|(path, line)| format!("{path}: {line}")).collect()
}

/// The identifiers in a piece of code.
fn words(code: &str) -> Vec<&str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect()
}

/// The complete `use` statements of a file, also those over several lines.
fn uses(source: &Source) -> Vec<String> {
    let text = source.code.join("\n");
    let statements = text.split(';').filter_map(|statement| {
        let at = statement.rfind("use ")?;
        let own = at == 0 || statement[..at].ends_with(['\n', ' ', ')']);
        own.then(|| statement[at..].to_owned())
    });
    statements.collect()
}

#[test]
fn the_core_depends_on_no_crate_that_does_io() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/Cargo.toml"));
    let manifest: toml::Table = manifest.expect("the core's manifest").parse().expect("it is TOML");
    let dependencies = manifest["dependencies"].as_table().expect("its dependencies");
    for name in IO_CRATES {
        assert!(!dependencies.contains_key(name), "weightd-core depends on {name}");
    }
    // The standard library can do I/O too.
    let mut sources = sources();
    sources.retain(|source| source.path.starts_with("core/"));
    assert!(sources.len() > 15, "the core is not in the expected directory");
    no_io(&sources);
}

#[test]
fn deciding_files_outside_the_core_do_no_io() {
    let mut sources = sources();
    for pure in PURE {
        assert!(sources.iter().any(|source| source.path == pure), "{pure} does not exist");
    }
    sources.retain(|source| PURE.contains(&source.path.as_str()));
    no_io(&sources);
    for source in &sources {
        for statement in uses(source) {
            let used = words(&statement);
            let io = IO_CRATES.map(|name| name.replace('-', "_"));
            let found = io.iter().find(|name| used.get(1) == Some(&name.as_str()) && *name != "anyhow");
            assert_eq!(found, None, "{}: {statement}", source.path);
        }
    }
}

/// Fails if a file names I/O or a clock of the standard library, in any form of import.
fn no_io(sources: &[Source]) {
    for source in sources {
        for statement in uses(source) {
            let used = words(&statement);
            let std = used.contains(&"std");
            let io = ["fs", "net", "io", "process", "env", "os", "thread", "time"].into_iter().find(|name| {
                // `Duration` is an amount of time, not a clock.
                std && used.contains(name) && !(*name == "time" && used.contains(&"Duration"))
            });
            assert_eq!(io, None, "{}: {statement}", source.path);
        }
    }
    let used = places(sources, |line| {
        let words = words(line);
        ["Instant", "SystemTime", "UNIX_EPOCH"].into_iter().any(|clock| words.contains(&clock))
            || ["std::fs", "std::net", "std::io", "std::process", "std::env", "std::thread"]
                .into_iter()
                .any(|path| line.contains(path))
    });
    assert_eq!(used, Vec::<String>::new(), "I/O or a clock in pure code");
}

#[test]
fn the_unmaintained_crate_is_named_in_one_file() {
    let used = places(&sources(), |line| line.contains("backoff::") || line.contains("extern crate backoff"));
    assert!(!used.is_empty() && used.iter().all(|place| place.starts_with("base/retry.rs: ")), "{used:#?}");
}

#[test]
fn shared_modules_do_not_depend_on_programs() {
    for source in sources().iter().filter(|source| source.path.starts_with("base")) {
        for statement in uses(source) {
            let used = words(&statement);
            let found = ["consul", "haproxy", "documents", "weightd", "weightctl"]
                .into_iter()
                .find(|module| used.get(1) == Some(&"crate") && used.contains(module));
            assert_eq!(found, None, "{}: {statement}", source.path);
        }
    }
}

#[test]
fn only_the_output_modules_print() {
    const MAY_PRINT: [&str; 3] = ["weightd/daemon.rs", "rolloutd/daemon.rs", "weightctl/"];
    let mut sources = sources();
    sources.retain(|source| !MAY_PRINT.iter().any(|may| source.path.starts_with(may)));
    let used = places(&sources, |line| {
        ["print!", "println!", "eprint!", "eprintln!", "dbg!"].into_iter().any(|m| line.contains(m))
    });
    assert_eq!(used, Vec::<String>::new());
}

#[test]
fn nothing_is_unwrapped_unsafe_or_unfinished() {
    let used = places(&sources(), |line| {
        [".unwrap()", "todo!", "unimplemented!", "unsafe ", "get_unchecked", "process::exit"]
            .into_iter()
            .any(|m| line.contains(m))
    });
    assert_eq!(used, Vec::<String>::new());
}

#[test]
fn one_file_writes_the_runtime_api() {
    let sources = sources();
    let writes = places(&sources, |line| line.contains("set server"));
    assert!(!writes.is_empty() && writes.iter().all(|place| place.starts_with("haproxy/command.rs: ")), "{writes:#?}");
    // No other file contains a command of the runtime API.
    let others = ["set weight {", "disable server", "enable server", "add server", "del server", "shutdown session"];
    let others = places(&sources, |line| others.into_iter().any(|other| line.contains(other)));
    assert_eq!(others, Vec::<String>::new());
}

#[test]
fn every_http_client_has_an_explicit_trust_store() {
    // By default, reqwest would use its own provider, and panics without one.
    for source in sources() {
        let count = |word: &str| source.code.iter().filter(|line| line.contains(word)).count();
        assert_eq!(count("reqwest::Client::builder"), count(".tls_backend_preconfigured("), "{}", source.path);
        assert_eq!(count("reqwest::Client::new") + count("reqwest::get"), 0, "{}", source.path);
    }
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), source.path.clone()))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert_eq!(long, []);
}

#[test]
fn weightctl_reads_haproxy_only_in_check_and_import_and_never_writes() {
    let mut sources = sources();
    sources.retain(|source| source.path.starts_with("weightctl"));
    let used = places(&sources, |line| line.contains("haproxy::") || line.contains("task::"));
    let may = |place: &String| ["weightctl/check", "weightctl/import"].iter().any(|may| place.starts_with(may));
    assert!(!used.is_empty() && used.iter().all(may), "{used:#?}");
    let sets = places(&sources, |line| line.contains("SetWeight") || line.contains("exchange::writes"));
    assert_eq!(sets, Vec::<String>::new());
}
