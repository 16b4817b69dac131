//! The peer: consul-template, rendering `set server` lines that are sent to HAProxy's socket, or the weights of
//! haproxy.cfg, which is then loaded anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    harness::{Haproxy, haproxy, program::Program},
    observer, setup,
};

/// How to get it.
pub const ABSENT: &str = "peer: consul-template is not on PATH, so it was not measured; it comes with \
                          `go install github.com/hashicorp/consul-template@latest`";

/// consul-template for the first backend below `prefix`. What it renders, this program sends in place of socat,
/// which starts no slower.
pub fn program(template: &Path, dir: &Path, consul: &str, prefix: &str, socket: &Path) -> anyhow::Result<Program> {
    let own = std::env::current_exe().context("where this program lies")?;
    let backend = setup::backend(0);
    let rendered = dir.join("weights");
    let text = format!(
        "{{{{ with key \"{prefix}{backend}\" | parseJSON }}}}{{{{ range $server, $weight := .weights }}}}\
         set server {backend}/{{{{ $server }}}} weight {{{{ $weight }}}};\
         {{{{ end }}}}show servers state {backend}{{{{ end }}}}"
    );
    let (own, socket, file) = (own.display().to_string(), socket.display().to_string(), rendered.display().to_string());
    start(template, dir, consul, &text, &rendered, &[&own, "--send", &socket, &file])
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
    start(template, dir, consul, &text, &own.dir().join("haproxy.cfg"), &["kill", "-USR2", &master])
}

/// consul-template that renders `text` to `destination`, and runs `command` after each time.
fn start(
    template: &Path,
    dir: &Path,
    consul: &str,
    text: &str,
    destination: &Path,
    command: &[&str],
) -> anyhow::Result<Program> {
    let (source, config) = (dir.join("weights.ctmpl"), dir.join("template.hcl"));
    fs::write(&source, text).context("cannot write the template")?;
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let text = format!(
        "consul {{ address = {} }}\ntemplate {{\n  source = {}\n  destination = {}\n  command = {}\n}}\n",
        serde_json::Value::from(consul),
        quoted(&source),
        quoted(destination),
        serde_json::Value::from(command),
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
