//! The peer: consul-template, rendering `set server` lines that are sent to HAProxy's socket.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{harness::program::Program, observer, setup};

/// How to get it.
pub const ABSENT: &str = "peer: consul-template is not on PATH, so it was not measured; it comes with \
                          `go install github.com/hashicorp/consul-template@latest`";

/// consul-template for the first backend below `prefix`. What it renders, `own` sends: this program in place of socat,
/// which starts no slower.
pub fn program(
    template: &Path,
    own: &Path,
    dir: &Path,
    consul: &str,
    prefix: &str,
    socket: &Path,
) -> anyhow::Result<Program> {
    let backend = setup::backend(0);
    let (source, rendered, config) = (dir.join("weights.ctmpl"), dir.join("weights"), dir.join("template.hcl"));
    let text = format!(
        "{{{{ with key \"{prefix}{backend}\" | parseJSON }}}}{{{{ range $server, $weight := .weights }}}}\
         set server {backend}/{{{{ $server }}}} weight {{{{ $weight }}}};\
         {{{{ end }}}}show servers state {backend}{{{{ end }}}}"
    );
    fs::write(&source, text).context("cannot write the template")?;
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let text = format!(
        "consul {{ address = {} }}\ntemplate {{\n  source = {}\n  destination = {}\n  command = [{}, \"--send\", {}, {}]\n}}\n",
        serde_json::Value::from(consul),
        quoted(&source),
        quoted(&rendered),
        quoted(own),
        quoted(socket),
        quoted(&rendered),
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
