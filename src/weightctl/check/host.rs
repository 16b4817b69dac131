//! This host: weightd's configuration, each HAProxy that it names, and weightd itself.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use weightd_core::{
    backend::Matched,
    desired::DesiredState,
    model::Root,
    observed::Roles,
    reasons::{self, Reason, Severity},
    stored::Stored,
};

use super::{
    Args,
    finding::{Finding, Section, Verdict},
};
use crate::{
    base::{chain::Chain, clock::Clock, systemd::Watchdog},
    consul::{
        Env,
        watch::{Feed, Link},
    },
    haproxy,
    weightctl::status,
    weightd::{
        config::{Config, DEFAULT_PATH, DEFAULT_SOCKET, Instance as Configured},
        instance::Instance,
        metrics::Metrics,
        reconciler::Reconciler,
        task::{Task, Timing},
    },
};

/// The line of haproxy.cfg that makes a socket as weightd needs it.
const SOCKET_LINE: &str = "mode 660 group haproxy level admin expose-fd listeners";
/// How long a HAProxy may take for all of it.
const DEADLINE: Duration = Duration::from_secs(8);

/// What there is on this host, as far as anything is.
pub(super) async fn look(args: &Args, root: &Root, state: Option<&Arc<DesiredState>>, env: &Env<'_>) -> Vec<Section> {
    if let Some(address) = &args.haproxy {
        let instance =
            Configured { name: "haproxy".to_owned(), address: address.clone(), root: root.clone(), state_file: None };
        return vec![haproxy(&instance, root, state).await];
    }
    let here = args.config.is_some() || Path::new(DEFAULT_PATH).exists() || Path::new(DEFAULT_SOCKET).exists();
    if !here {
        let detail = format!("neither {DEFAULT_PATH} nor {DEFAULT_SOCKET} is here: this is no host with HAProxy");
        return vec![Section { part: "host", name: String::new(), findings: vec![Finding::skip("haproxy", detail)] }];
    }
    let config = match Config::load(args.config.as_deref(), env) {
        Ok(config) => config,
        Err(error) => {
            let file = args.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH)).display();
            let hint = format!("weightd --check --config {file}, and mend what it names");
            let findings = vec![Finding::fail("configuration", Chain(&error).to_string(), hint)];
            return vec![Section { part: "weightd", name: String::new(), findings }];
        }
    };
    let mut sections = Vec::new();
    for instance in &config.haproxy {
        sections.push(haproxy(instance, root, state).await);
    }
    let documents = state.is_some_and(|state| !state.backends.is_empty());
    sections.push(weightd(config.api, root, documents).await);
    sections
}

/// One HAProxy, looked at as weightd would.
async fn haproxy(configured: &Configured, root: &Root, state: Option<&Arc<DesiredState>>) -> Section {
    let clock = Clock::start();
    let (_feed, feed) = watch::channel(match state {
        Some(state) if configured.root == *root => Feed::State { state: Arc::clone(state), read_at: clock.now() },
        _ => Feed::Unavailable,
    });
    let (_link, link) = watch::channel(Link::default());
    let timing = Timing { resync: DEADLINE, process_poll: DEADLINE };
    let (name, address) = (configured.name.clone(), configured.address.clone());
    let reconciler = Reconciler::new(Stored::default(), true);
    let instance = Arc::new(Instance::new(name, address, configured.root.to_string(), link, reconciler));
    let (metrics, pulse) = (Arc::new(Metrics::new()), Watchdog::pulses(1).remove(0));
    let mut task = Task::new(Arc::clone(&instance), feed, watch::channel(timing).1, None, clock, metrics, pulse);
    let in_time = timeout(DEADLINE, task.once()).await.is_ok();
    let mut findings = process(&instance, &configured.address, in_time);
    if findings.iter().all(|finding| finding.verdict != Verdict::Fail) {
        if configured.root == *root {
            backends(&instance, &mut findings);
        } else {
            let detail = format!("its documents lie below {}; look there with --root {0}", configured.root);
            findings.push(Finding::skip("backends", detail));
        }
    }
    findings.push(state_file(configured));
    Section { part: "haproxy", name: format!("{} at {}", configured.name, configured.address), findings }
}

/// Whether HAProxy answers, and lets weights be set.
fn process(instance: &Instance, address: &haproxy::Address, in_time: bool) -> Vec<Finding> {
    let line = match address {
        haproxy::Address::Unix(path) => format!("stats socket {} {SOCKET_LINE}", path.display()),
        haproxy::Address::Tcp { host, port } => format!("stats socket ipv4@{host}:{port} level admin"),
    };
    let add = format!("`{line}` in the section `global` of haproxy.cfg, and `systemctl reload haproxy`");
    let inner = instance.lock();
    if let Some(down) = &inner.down {
        let hint = match (down.reason, address) {
            ("no_socket" | "refused", _) => format!("systemctl start haproxy; if it runs: {add}"),
            ("permission_denied", haproxy::Address::Unix(path)) => {
                format!(
                    "sudo usermod -aG \"$(stat -c %G {})\" \"$USER\", and log in again; weightd's user too",
                    path.display()
                )
            }
            _ => down.remedy.to_owned(),
        };
        return vec![Finding::fail("socket", down.detail.clone(), hint)];
    }
    let Some(process) = &inner.reconciler.process else {
        let detail = "HAProxy answers no more than that it is there";
        return vec![Finding::fail("socket", detail, "see whether HAProxy hangs, and how many clients its socket has")];
    };
    let mut findings = vec![Finding::ok("socket", format!("HAProxy {}, pid {}", process.version, process.pid))];
    findings.push(if process.level == "admin" {
        Finding::ok("level", "admin")
    } else {
        Finding::fail("level", format!("the socket's level is {}, setting a weight needs admin", process.level), add)
    });
    if !in_time {
        let detail = format!("not everything was read within {} s", DEADLINE.as_secs());
        findings.push(Finding::warn("backends", detail, "see how busy HAProxy and this machine are"));
    }
    findings
}

/// What of the documents is here, and what speaks against it.
fn backends(instance: &Instance, findings: &mut Vec<Finding>) {
    let inner = instance.lock();
    let managed = || inner.reconciler.backends.iter().filter(|(_, backend)| backend.managed());
    let absent: Vec<_> = managed().filter(|(_, b)| b.matched == Matched::No).map(|(name, _)| name.as_str()).collect();
    let (here, all) = (managed().count() - absent.len(), managed().count());
    if here == 0 && all > 0 {
        let detail = format!(
            "HAProxy has none of the {all} backends that have a document: {}",
            reasons::list(absent.into_iter())
        );
        findings.push(Finding::warn("backends", detail, "compare the names in haproxy.cfg with `weightctl list`"));
    } else if absent.is_empty() {
        findings.push(Finding::ok("backends", format!("{here} with a document")));
    } else {
        let absent = reasons::list(absent.into_iter());
        findings.push(Finding::ok("backends", format!("{here} with a document; not on this HAProxy: {absent}")));
    }
    for (name, backend) in managed() {
        if backend.roles.as_ref().is_some_and(Roles::known_static) {
            let detail = format!("{name}: `balance static-rr` takes no weights while HAProxy runs");
            let hint =
                format!("`balance roundrobin` in `backend {name}` of haproxy.cfg, and `systemctl reload haproxy`");
            findings.push(Finding::fail("algorithm", detail, hint));
        }
        for Reason { reason, detail, remedy, severity } in reasons::of(backend, false, None) {
            let detail = format!("{name}: {detail}");
            match severity {
                // That a document names more than this HAProxy has is normal in a fleet, and was said above.
                Severity::Normal => {}
                Severity::Info | Severity::Warning => findings.push(Finding::warn(reason, detail, remedy)),
                Severity::Error => findings.push(Finding::fail(reason, detail, remedy)),
            }
        }
    }
}

/// Whether the file that HAProxy is to begin with is there.
fn state_file(configured: &Configured) -> Finding {
    let Some(path) = &configured.state_file else {
        return Finding::skip(
            "state file",
            "none is asked for: after a reload HAProxy begins with its configured weights",
        );
    };
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with("1\n") => {
            Finding::ok("state file", format!("{shown}, {} servers", text.lines().skip(2).count()))
        }
        Ok(_) => Finding::fail("state file", format!("{shown} is no server-state file"), format!("rm {shown}")),
        Err(error) => {
            let folder = path.parent().unwrap_or(path).display();
            let hint = format!("sudo install -d -o weightd -g haproxy {folder}, and see `journalctl -u weightd`");
            Finding::fail("state file", format!("{shown} cannot be read: {error}"), hint)
        }
    }
}

/// What the weightd of this host says of itself.
async fn weightd(api: Option<SocketAddr>, root: &Root, documents: bool) -> Section {
    let section = |name, findings| Section { part: "weightd", name, findings };
    let Some(address) = api else {
        return section(String::new(), vec![Finding::skip("runs", "its HTTP API is off, `listen` in [api]")]);
    };
    let name = format!("http://{address}");
    let report = match status::read(&name).await {
        Ok(report) => report,
        Err(failure) => {
            let hint = "sudo systemctl start weightd; if it does not stay: journalctl -u weightd -n 50";
            return section(name, vec![Finding::fail("runs", format!("{:#}", failure.error), hint)]);
        }
    };
    let mut findings = vec![Finding::ok("runs", format!("version {}, mode {}", report.version, report.mode))];
    for instance in &report.instances {
        let (name, consul, haproxy) = (&instance.name, &instance.consul, &instance.haproxy);
        let failed = |check, state: &str, detail: &Option<String>, remedy: &Option<String>| {
            let remedy = remedy.as_deref().unwrap_or_default().replace("<root>", &instance.root);
            Finding::fail(check, format!("{name}: {state}: {}", detail.as_deref().unwrap_or_default()), remedy)
        };
        findings.push(if consul.state == "held" {
            failed("follows", &consul.state, &consul.detail, &consul.remedy)
        } else if consul.empty == Some(true) && documents && instance.root == root.to_string() {
            let prefix = root.weights_prefix();
            let detail = format!("{name}: sees no document where you see some: its token may not read {prefix}");
            let rule = format!("key_prefix \"{prefix}\" {{ policy = \"read\" }}");
            let hint = format!("give weightd's token `{rule}`, and `sudo systemctl reload weightd`");
            Finding::fail("follows", detail, hint)
        } else {
            Finding::ok("follows", format!("{name}: {}", consul.state))
        });
        findings.push(if haproxy.state == "down" {
            failed("haproxy", &haproxy.state, &haproxy.detail, &haproxy.remedy)
        } else {
            Finding::ok("haproxy", format!("{name}: {}", haproxy.state))
        });
        findings.push(if instance.converged {
            Finding::ok("converged", name)
        } else {
            Finding::warn("converged", format!("{name}: not everything is as Consul says"), "weightctl status --local")
        });
    }
    section(name, findings)
}
