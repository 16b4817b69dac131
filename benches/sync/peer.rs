//! The peer: consul-template, rendering `set server` lines that are sent to HAProxy's socket, or the weights of
//! haproxy.cfg, which is then loaded anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    harness::{
        Haproxy, haproxy,
        program::{self, Program},
    },
    observer,
    setup::{self, Other},
    table::Report,
};

/// How to get it.
const ABSENT: &str = "peer: consul-template is not on PATH and did not run; it comes with \
                      `go install github.com/hashicorp/consul-template@v0.41.4`";
/// What is different without socat.
const WITHOUT_SOCAT: &str =
    "peer: socat is not on PATH; the benchmark itself sends what consul-template renders, and starts no slower";

/// The peer, if it is there. The report says where it, or socat, is missing.
pub fn of(report: &mut Report) -> Vec<Other> {
    let template = setup::template();
    let note = match (&template, program::server("socat")) {
        (None, _) => Some(ABSENT),
        (Some(_), Err(_)) => Some(WITHOUT_SOCAT),
        (Some(_), Ok(_)) => None,
    };
    report.notes.extend(note.map(str::to_owned).filter(|note| !report.notes.contains(note)));
    template.map(Other::Template).into_iter().collect()
}

/// consul-template for the first backend below `prefix`. socat sends what it renders, as its users do it: a shell reads
/// the line. Without socat this program sends it.
pub fn sending(template: &Path, dir: &Path, consul: &str, prefix: &str, socket: &Path) -> anyhow::Result<Program> {
    let own = std::env::current_exe().context("where this program lies")?;
    let backend = setup::backend(0);
    let rendered = dir.join("weights");
    let text = format!(
        "{{{{ with key \"{prefix}{backend}\" | parseJSON }}}}{{{{ range $server, $weight := .weights }}}}\
         set server {backend}/{{{{ $server }}}} weight {{{{ $weight }}}};\
         {{{{ end }}}}show servers state {backend}{{{{ end }}}}"
    );
    let (socket, file) = (socket.display(), rendered.display());
    let command = match program::server("socat") {
        Ok(socat) => format!("{} - UNIX-CONNECT:{socket} < {file}", socat.display()).into(),
        Err(_) => serde_json::json!([own, "--send", socket.to_string(), file.to_string()]),
    };
    start(template, dir, consul, &text, &rendered, &command)
}

/// consul-template for the same, which writes the weights into haproxy.cfg and has HAProxy load it.
pub fn reloading(template: &Path, dir: &Path, consul: &str, prefix: &str, own: &Haproxy) -> anyhow::Result<Program> {
    let backend = setup::backend(0);
    let text = format!(
        "backend {backend}\n    balance roundrobin\n\
         {{{{ with key \"{prefix}{backend}\" | parseJSON }}}}{{{{ range $server, $weight := .weights }}}}\
         \x20   server {{{{ $server }}}} 127.0.0.1:9 weight {{{{ $weight }}}}\n\
         {{{{ end }}}}{{{{ end }}}}"
    );
    let text = haproxy::configuration(&text)?;
    let master = own.master_pid()?.as_raw_nonzero().to_string();
    start(template, dir, consul, &text, &own.dir().join("haproxy.cfg"), &serde_json::json!(["kill", "-USR2", master]))
}

/// consul-template that renders `text` to `destination`, and runs `command` after each time.
fn start(
    template: &Path,
    dir: &Path,
    consul: &str,
    text: &str,
    destination: &Path,
    command: &serde_json::Value,
) -> anyhow::Result<Program> {
    let (source, config) = (dir.join("weights.ctmpl"), dir.join("template.hcl"));
    fs::write(&source, text).context("cannot write the template")?;
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let text = format!(
        "consul {{ address = {} }}\ntemplate {{\n  source = {}\n  destination = {}\n  command = {}\n}}\n",
        serde_json::Value::from(consul),
        quoted(&source),
        quoted(destination),
        command,
    );
    fs::write(&config, text).context("cannot write consul-template's configuration")?;
    let program = Program::new("consul-template", template.to_owned(), dir);
    Ok(program.args(["-log-level".as_ref(), "err".as_ref(), "-config".as_ref(), config.as_os_str()]))
}

/// What the peer starts after each change: sends a file to HAProxy's socket.
pub fn send(socket: &Path, file: &Path) -> anyhow::Result<()> {
    let line = fs::read_to_string(PathBuf::from(file)).context("cannot read what was rendered")?;
    observer::exchange(socket, line.trim()).map(drop)
}
