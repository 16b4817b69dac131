//! Checks this host: weightd's configuration, each HAProxy in it, and weightd itself.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::time::timeout;
use weightd_core::{
    backend::Matched,
    desired::DesiredState,
    diagnosis,
    model::Root,
    observed::Roles,
    reasons::{Reason, Severity, list},
};

use super::{
    Args, Documents,
    finding::{CheckResult, Finding, Section},
    weightd,
};
use crate::{
    base::{chain::Chain, clock::Clock},
    consul::Client,
    haproxy::{Address, Reader},
    weightctl::{context::Context, host::path},
    weightd::{
        config::{Config, DEFAULT_SOCKET, HaproxyConfig},
        session::Session,
        survey,
    },
};

/// The options of `stats socket` in haproxy.cfg that weightd needs.
const SOCKET_LINE: &str = "mode 660 group haproxy level admin expose-fd listeners";
/// Time limit for all reads of one HAProxy together.
const DEADLINE: Duration = Duration::from_secs(8);

/// Checks this host. `documents` are the documents in Consul; none if the read failed.
pub(super) async fn check(
    args: &Args,
    context: &Context<'_>,
    documents: Option<&Documents>,
    client: Client,
) -> Vec<Section> {
    let root = context.root();
    let state = documents.map(|documents| &documents.state);
    if let Some(address) = &args.haproxy {
        let config = HaproxyConfig {
            name: "haproxy".to_owned(),
            address: address.clone(),
            root: root.clone(),
            state_file: None,
            master_socket: None,
        };
        return vec![haproxy(&config, &root, state, None).await];
    }
    let path = args.config.clone().unwrap_or_else(|| path(context.env));
    let named = args.config.is_some();
    if !(named || path.exists() || Path::new(DEFAULT_SOCKET).exists()) {
        let detail = format!("neither {} nor {DEFAULT_SOCKET} exists: this host has no HAProxy", path.display());
        return vec![Section { part: "host", name: String::new(), findings: vec![Finding::skip("haproxy", detail)] }];
    }
    let config = match Config::load((named || path.exists()).then_some(path.as_path()), context.env) {
        Ok(config) => config,
        Err(error) => {
            let hint = format!("`weightd --check --config {}` names the setting; correct it", path.display());
            let findings = vec![Finding::fail("configuration", Chain(&error).to_string(), hint)];
            return vec![Section { part: "weightd", name: String::new(), findings }];
        }
    };
    let mut sections = Vec::new();
    let setup = fs::read_to_string(&path).ok().and_then(|file| state_file_commands(&file, &path, &config.state_dir));
    for config in &config.haproxy {
        sections.push(haproxy(config, &root, state, setup.clone()).await);
    }
    sections.push(weightd::check(config.api, context, documents, client).await);
    sections
}

/// Checks one HAProxy. Reads it with weightd's own session. `setup` configures a server-state file.
async fn haproxy(
    config: &HaproxyConfig,
    root: &Root,
    state: Option<&Arc<DesiredState>>,
    setup: Option<String>,
) -> Section {
    let (reader, clock) = (Reader::new(config.address.clone()), Clock::start());
    let mut session = survey::session(&clock);
    let documents = state.filter(|_| config.root == *root);
    if let Some(state) = documents {
        session.set_desired(state, clock.now());
    }
    let in_time = timeout(DEADLINE, survey::read(&mut session, &reader, &clock)).await.is_ok();
    let mut findings = process(&session, &config.address, in_time);
    if findings.iter().all(|finding| finding.verdict != CheckResult::Fail) {
        findings.extend(if documents.is_some() {
            backends(&session)
        } else if config.root == *root {
            let detail = "not compared: the documents could not be read from Consul";
            vec![Finding::skip("backends", detail)]
        } else {
            let detail = format!("its documents are below {0}; check them with --root {0}", config.root);
            vec![Finding::skip("backends", detail)]
        });
    }
    findings.push(state_file(config, setup));
    Section { part: "haproxy", name: format!("{} at {}", config.name, config.address), findings }
}

/// Checks that HAProxy answers, and that its socket allows to set weights.
fn process(session: &Session, address: &Address, in_time: bool) -> Vec<Finding> {
    let line = match address {
        Address::Unix(path) => format!("stats socket {} {SOCKET_LINE}", path.display()),
        Address::Abstract { .. } => format!("stats socket {address} level admin"),
        Address::Tcp { host, port } => format!("stats socket ipv4@{host}:{port} level admin"),
    };
    let add = format!("`{line}` in the section `global` of haproxy.cfg, and `systemctl reload haproxy`");
    if let Some(down) = &session.down {
        let hint = match (down.reason, address) {
            ("no_socket" | "refused", _) => format!("systemctl start haproxy; if it runs: {add}"),
            // Not "add this user to the group": that grants more than a check needs, and the group may be root.
            ("permission_denied", _) => "sudo weightctl check; weightd itself needs the group of the socket, \
                                         `group haproxy` in haproxy.cfg"
                .to_owned(),
            _ => down.remedy.to_owned(),
        };
        return vec![Finding::fail("socket", down.detail.clone(), hint)];
    }
    let Some(process) = &session.processes.current else {
        let detail = "HAProxy accepts connections but does not answer";
        return vec![Finding::fail(
            "socket",
            detail,
            "check whether HAProxy hangs, and how many clients its socket has",
        )];
    };
    let mut findings = vec![Finding::ok("socket", format!("HAProxy {}, pid {}", process.version, process.pid))];
    findings.push(if process.level == "admin" {
        Finding::ok("level", "admin")
    } else {
        Finding::fail(
            "level",
            format!("the socket has level {}, but setting a weight needs level admin", process.level),
            add,
        )
    });
    if !in_time {
        let detail = format!("the read of HAProxy did not finish within {} s", DEADLINE.as_secs());
        findings.push(Finding::warn("backends", detail, "check the load of HAProxy and of this machine"));
    }
    findings
}

/// Reports which documents apply to this HAProxy, and every reason why a weight may have no effect.
fn backends(session: &Session) -> Vec<Finding> {
    let mut findings = Vec::new();
    let managed = || session.backends.iter().filter(|(_, backend)| backend.managed());
    let absent: Vec<_> = managed().filter(|(_, b)| b.matched == Matched::No).map(|(name, _)| name.as_str()).collect();
    let (here, all) = (managed().count() - absent.len(), managed().count());
    if here == 0 && all > 0 {
        let detail =
            format!("HAProxy has none of the {all} backends that have a document: {}", list(absent.into_iter()));
        findings.push(Finding::warn("backends", detail, "compare the names in haproxy.cfg with `weightctl list`"));
    } else if absent.is_empty() {
        findings.push(Finding::ok("backends", format!("{here} with a document")));
    } else {
        let absent = list(absent.into_iter());
        findings.push(Finding::ok("backends", format!("{here} with a document; not on this HAProxy: {absent}")));
    }
    for (name, backend) in managed() {
        if backend.roles.as_ref().is_some_and(Roles::known_static) {
            let detail = format!("{name}: `balance static-rr` accepts no new weights while HAProxy runs");
            let hint =
                format!("`balance roundrobin` in `backend {name}` of haproxy.cfg, and `systemctl reload haproxy`");
            findings.push(Finding::fail("algorithm", detail, hint));
        }
        for Reason { reason, detail, remedy, severity } in diagnosis::reasons(backend, None) {
            let detail = format!("{name}: {detail}");
            match severity {
                // A document with more servers than this HAProxy has is normal in a fleet, and reported above.
                Severity::Normal => {}
                Severity::Info | Severity::Warning => findings.push(Finding::warn(reason, detail, remedy)),
                Severity::Error => findings.push(Finding::fail(reason, detail, remedy)),
            }
        }
    }
    findings
}

/// The commands after which weightd writes a server-state file and HAProxy loads it when it starts.
///
/// The command appends to `text`, the configuration: to its only `[[haproxy]]` section where that is the last one, or a first
/// such section. Otherwise there is no command.
fn state_file_commands(text: &str, config: &Path, state_dir: &Path) -> Option<String> {
    let headers: Vec<_> = text.lines().map(str::trim).filter(|line| line.starts_with('[')).collect();
    let of_haproxy = |line: &str| line.starts_with("[[haproxy]]");
    let section = match headers.iter().filter(|line| of_haproxy(line)).count() {
        0 => "[[haproxy]]\\n",
        1 if headers.last().is_some_and(|line| of_haproxy(line)) => "",
        _ => return None,
    };
    let file = state_dir.join("server-state");
    let (file, config) = (file.display(), config.display());
    Some(format!(
        "printf '\\n{section}state_file = \"{file}\"\\n' | sudo tee -a {config} && \
         sudo weightd --check --config {config} && sudo systemctl restart weightd && \
         sudo sed -i -e 's|^global.*|&\\n    server-state-file {file}|' \
         -e 's|^defaults.*|&\\n    load-server-state-from-file global|' /etc/haproxy/haproxy.cfg && \
         sudo systemctl reload haproxy"
    ))
}

/// Checks the server-state file that HAProxy loads when it starts. `setup` is the command that configures one.
fn state_file(config: &HaproxyConfig, setup: Option<String>) -> Finding {
    let Some(path) = &config.state_file else {
        let detail =
            "not configured: after a reload, HAProxy has the weights of haproxy.cfg until weightd corrects them";
        return Finding::skip("state file", detail).with_hint(setup);
    };
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with("1\n") => {
            Finding::ok("state file", format!("{shown}, {} servers", text.lines().skip(2).count()))
        }
        Ok(_) => Finding::fail("state file", format!("{shown} is not a server-state file"), format!("rm {shown}")),
        Err(error) => {
            let folder = path.parent().unwrap_or(path).display();
            let hint = format!("sudo install -d -o weightd -g haproxy {folder}; weightd's log: journalctl -u weightd");
            Finding::fail("state file", format!("{shown} cannot be read: {error}"), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(file: &str) -> Option<String> {
        state_file_commands(file, Path::new("/etc/weightd/weightd.toml"), Path::new("/var/lib/weightd"))
    }

    #[test]
    fn the_state_file_is_appended_only_to_the_section_of_the_haproxy() {
        let line = "state_file = \"/var/lib/weightd/server-state\"";
        let to_last = command("[consul]\naddress = \"x:1\"\n[[haproxy]]\nname = \"edge\"\n").unwrap();
        assert!(to_last.starts_with(&format!("printf '\\n{line}\\n' | sudo tee -a ")), "{to_last}");
        for without in ["", "# [[haproxy]]\n[api]\nlisten = \"off\"\n"] {
            let new = command(without).unwrap();
            assert!(new.starts_with(&format!("printf '\\n[[haproxy]]\\n{line}\\n' | sudo tee -a ")), "{new}");
            assert!(new.contains("sudo weightd --check --config /etc/weightd/weightd.toml && sudo systemctl restart"));
        }
        assert_eq!(command("[[haproxy]]\nname = \"edge\"\n[api]\nlisten = \"off\"\n"), None);
        assert_eq!(command("[[haproxy]]\nname = \"a\"\n[[haproxy]]\nname = \"b\"\n"), None);
    }
}
