//! What the parts must never do, read off the source.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a file.
const MAX_LINES: usize = 500;

/// What decides, and must do no I/O and read no clock.
const PURE: [&str; 14] = [
    "accept.rs",
    "plan.rs",
    "observed.rs",
    "desired",
    "model",
    "reconcile/backend.rs",
    "reconcile/contention.rs",
    "reconcile/pauses.rs",
    "reconcile/reasons.rs",
    "reconcile/reconciler",
    "reconcile/exchange.rs",
    "reconcile/event.rs",
    "ctl/import/decide.rs",
    "ctl/import/kv.rs",
];

/// A file of the source, and its text without comments and without its tests.
pub(crate) struct Source {
    /// Its path below `src`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: Vec<String>,
}

pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 20, "the source is not where it is looked for");
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let path = file.strip_prefix(&root).expect("it lies below").to_string_lossy().into_owned();
            let tests_only = path.ends_with("/tests.rs");
            let code = if tests_only { Vec::new() } else { code(&text) };
            Source { path, text, code }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines of code: no comments, and nothing from the module of tests on, which stands last.
fn code(text: &str) -> Vec<String> {
    let mut lines = text.lines().map(str::trim).peekable();
    let mut code = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.contains("mod ") && next.ends_with('{')) {
            break;
        }
        if !line.starts_with("//") {
            code.push(line.to_owned());
        }
    }
    code
}

/// The places where `found` says that a line of code has it.
fn places(sources: &[Source], found: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = sources.iter().flat_map(|source| source.code.iter().map(move |line| (&source.path, line)));
    lines.filter(|(_, line)| found(line)).map(|(path, line)| format!("{path}: {line}")).collect()
}

fn is_pure(path: &str) -> bool {
    PURE.iter().any(|pure| path == *pure || path == format!("{pure}.rs") || path.starts_with(&format!("{pure}/")))
}

#[test]
fn what_decides_does_no_io_and_reads_no_clock() {
    let mut sources = sources();
    for pure in PURE {
        assert!(
            sources
                .iter()
                .any(|s| s.path == pure || s.path.starts_with(&format!("{pure}/")) || s.path == format!("{pure}.rs")),
            "there is no {pure} any more"
        );
    }
    sources.retain(|source| is_pure(&source.path));
    for crate_name in ["tokio", "tokio_util", "reqwest", "hyper", "axum", "tracing", "anyhow", "clap"] {
        let path = format!("{crate_name}::");
        let used = places(&sources, |line| {
            line.match_indices(&path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        assert_eq!(used, Vec::<String>::new(), "{crate_name} in pure code");
    }
    // However it is imported: as a path, or as one of several below `std`.
    let used = places(&sources, |line| {
        let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let names = |word: &str| words.contains(&word);
        names("Instant")
            || names("SystemTime")
            || names("UNIX_EPOCH")
            || names("thread")
            || line.contains("std::") && ["fs", "net", "io", "process", "env", "os"].into_iter().any(names)
            || ["fs::", "net::", "io::", "process::", "env::", "os::"]
                .into_iter()
                .any(|import| line.starts_with(import))
    });
    assert_eq!(used, Vec::<String>::new(), "I/O or a clock in pure code");
    // Nor through the project's own shell.
    for module in [
        "clock",
        "config",
        "consul",
        "daemon",
        "api",
        "lock",
        "metrics",
        "telemetry",
        "retry",
        "shutdown",
        "systemd",
        "socket",
        "task",
    ] {
        let used = places(&sources, |line| {
            line.contains(&format!("crate::{module}"))
                || line.contains(&format!("{module}::")) && !line.contains("self::")
        });
        assert_eq!(used, Vec::<String>::new(), "{module} in pure code");
    }
}

#[test]
fn the_unmaintained_crate_is_named_in_one_file() {
    let used = places(&sources(), |line| line.contains("backoff::") || line.contains("extern crate backoff"));
    assert!(!used.is_empty() && used.iter().all(|place| place.starts_with("retry.rs: ")), "{used:#?}");
}

#[test]
fn only_what_was_asked_for_goes_to_the_terminal() {
    const MAY_PRINT: [&str; 2] = ["daemon.rs", "ctl"];
    let mut sources = sources();
    sources.retain(|s| {
        !MAY_PRINT
            .iter()
            .any(|may| s.path == *may || s.path.starts_with(&format!("{may}/")) || s.path == format!("{may}.rs"))
    });
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
    // Nothing else of what the runtime API could do is written anywhere.
    let others = ["set weight {", "disable server", "enable server", "add server", "del server", "shutdown session"];
    let others = places(&sources, |line| others.into_iter().any(|other| line.contains(other)));
    assert_eq!(others, Vec::<String>::new());
}

#[test]
fn every_http_client_is_told_what_to_trust() {
    // Left alone, reqwest would look for a provider of its own choice, and panic without one.
    for source in sources() {
        let count = |word: &str| source.code.iter().filter(|line| line.contains(word)).count();
        assert_eq!(count("reqwest::Client::builder"), count(".tls_backend_preconfigured("), "{}", source.path);
        assert_eq!(count("reqwest::Client::new") + count("reqwest::get"), 0, "{}", source.path);
    }
}

#[test]
fn files_are_short_enough_to_be_read() {
    let long: Vec<_> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), source.path.clone()))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert_eq!(long, []);
}

#[test]
fn weightctl_only_looks_at_haproxy_and_only_to_check_and_to_import() {
    let mut sources = sources();
    sources.retain(|source| source.path == "ctl.rs" || source.path.starts_with("ctl/"));
    let used = places(&sources, |line| line.contains("haproxy::") || line.contains("task::"));
    let may = |place: &String| ["ctl/check", "ctl/import"].iter().any(|may| place.starts_with(may));
    assert!(!used.is_empty() && used.iter().all(may), "{used:#?}");
    let sets = places(&sources, |line| line.contains("SetWeight") || line.contains("exchange::writes"));
    assert_eq!(sets, Vec::<String>::new());
}
