//! weightd on this host: whether it runs, and whether it follows what weightctl writes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use weightd_core::{
    desired::{DesiredState, Instruction, Published},
    model::{BackendName, Root},
    reasons::list,
    wire::status::{BackendState, InstanceStatus, LinkState, ProcessState, Status},
};

use super::{
    consul,
    finding::{Finding, Section},
};
use crate::{
    consul::Client,
    weightctl::{context::Context, status},
};

/// How long a difference must last before it is reported: a document may change while both read.
const LASTING: Duration = Duration::from_secs(2);
/// What to do where weightd and weightctl read different documents.
const SAME_CONSUL: &str = "compare `address` and `datacenter` in [consul] of weightd's configuration with --http-addr and --datacenter; \
                           where both are right, see whether weightd's token may read these keys";
/// Between two comparisons.
const AGAIN: Duration = Duration::from_millis(250);

/// Checks the weightd whose API is at `api`. `state` are the documents as weightctl reads them.
pub(super) async fn check(
    api: Option<SocketAddr>,
    context: &Context<'_>,
    state: Option<&Arc<DesiredState>>,
    client: Client,
) -> Section {
    let section = |name, findings| Section { part: "weightd", name, findings };
    let Some(address) = api else {
        return section(String::new(), vec![Finding::skip("runs", "its HTTP API is off, `listen` in [api]")]);
    };
    let name = format!("http://{address}");
    let mut report = match status::read(&name).await {
        Ok(report) => report,
        Err(failure) => {
            let hint = "sudo systemctl start weightd; if it does not stay: journalctl -u weightd -n 50";
            return section(name, vec![Finding::fail("runs", format!("{:#}", failure.error), hint)]);
        }
    };
    let root = context.root();
    let mut state = state.map(Arc::clone);
    let client = Arc::new(client);
    let until = Instant::now() + LASTING;
    while state.as_deref().is_some_and(|state| differ(&report, &root, state)) && Instant::now() < until {
        sleep(AGAIN).await;
        // What cannot be read now was read before.
        if let Ok(now) = consul::documents(&client, &root).await {
            state = Some(now.state);
        }
        if let Ok(now) = status::read(&name).await {
            report = now;
        }
    }
    let mut findings = vec![Finding::ok("runs", format!("version {}, mode {}", report.version, report.mode))];
    for problem in &report.problems {
        findings.push(Finding::warn(problem.reason.clone(), problem.detail.clone(), problem.remedy.clone()));
    }
    findings.extend(same_place(&report, &root, context));
    for instance in &report.instances {
        findings.extend(of_instance(instance, &root, state.as_deref(), &client));
    }
    section(name, findings)
}

/// Whether weightd and weightctl have read different documents.
fn differ(report: &Status, root: &Root, state: &DesiredState) -> bool {
    let same_root = report.instances.iter().filter(|instance| instance.root == root.to_string());
    same_root.filter(|i| i.consul.state == LinkState::Following).any(|i| !differences(i, state).is_empty())
}

/// The backends whose document is not the same for weightd as for weightctl.
fn differences<'a>(instance: &'a InstanceStatus, state: &'a DesiredState) -> Vec<&'a str> {
    let theirs = |name: &BackendName| instance.backends.iter().find(|backend| backend.backend.as_ref() == Some(name));
    let mut names: Vec<&str> = Vec::new();
    for (name, published) in &state.backends {
        let same = match published {
            // What weightd has of a rejected key is the last valid document.
            Published::Rejected(_) => true,
            Published::Valid(Instruction::Release { .. }) => {
                theirs(name).is_none_or(|backend| backend.state == BackendState::Released)
            }
            Published::Valid(Instruction::Weights(ours) | Instruction::Leaves(ours)) => {
                theirs(name).is_some_and(|backend| {
                    // A leaf that is gone from Consul stays in force for weightd.
                    backend.orphaned || backend.desired.as_ref() == Some(&**ours)
                })
            }
        };
        if !same {
            names.push(name.as_str());
        }
    }
    // What weightd follows and weightctl does not have.
    for backend in &instance.backends {
        let Some(name) = &backend.backend else { continue };
        if backend.desired.is_some() && !backend.orphaned && !state.backends.contains_key(name) {
            names.push(name.as_str());
        }
    }
    names
}

/// Whether weightd follows the root and the datacenter that weightctl uses.
fn same_place(report: &Status, root: &Root, context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut roots: Vec<&str> = report.instances.iter().map(|instance| instance.root.as_str()).collect();
    roots.sort_unstable();
    roots.dedup();
    if !roots.is_empty() && !roots.contains(&root.to_string().as_str()) {
        let detail = format!(
            "weightctl uses root {root}, and weightd follows {}: what `set` writes does not reach this HAProxy",
            list(roots.iter().copied())
        );
        findings.push(Finding::fail("root", detail, format!("export WEIGHTD_ROOT={}", roots[0])));
    }
    let ours = context.settings().ok().and_then(|settings| settings.datacenter);
    if let (Some(ours), Some(theirs)) = (&ours, &report.datacenter)
        && ours != theirs
    {
        let detail = format!(
            "weightctl uses datacenter {ours}, and weightd follows {theirs}: what `set` writes does not reach this HAProxy"
        );
        findings.push(Finding::fail("datacenter", detail, format!("use --datacenter {theirs}")));
    }
    findings
}

fn of_instance(instance: &InstanceStatus, root: &Root, state: Option<&DesiredState>, client: &Client) -> Vec<Finding> {
    let (name, consul, haproxy) = (&instance.name, &instance.consul, &instance.haproxy);
    let failed = |check: &'static str, word: &str, detail: Option<&String>, remedy: Option<&str>| {
        let remedy = remedy.unwrap_or_default().replace("<root>", &instance.root);
        Finding::fail(check, format!("{name}: {word}: {}", detail.map_or("", String::as_str)), remedy)
    };
    let state = state.filter(|_| instance.root == root.to_string());
    let differences = state.map_or_else(Vec::new, |state| differences(instance, state));
    let mut findings = Vec::new();
    findings.push(if consul.state == LinkState::Held {
        failed("follows", "held", consul.detail.as_ref(), consul.remedy.as_deref())
    } else if consul.empty && state.is_some_and(|state| !state.backends.is_empty()) {
        let prefix = root.weights_prefix();
        let (theirs, ours) = (&consul.address, client.address().to_string());
        if *theirs == ours {
            let detail = format!("{name}: finds no document where you find some: its token may not read {prefix}");
            let rule = format!("key_prefix \"{prefix}\" {{ policy = \"read\" }}");
            let hint = format!("give weightd's token `{rule}`, and `sudo systemctl reload weightd`");
            Finding::fail("follows", detail, hint)
        } else {
            let detail = format!("{name}: weightd finds no document at {theirs}, and you find some at {ours}");
            Finding::fail("follows", detail, SAME_CONSUL)
        }
    } else if !differences.is_empty() {
        let detail = format!(
            "{name}: weightd at {} has not read what you read at {}: {}",
            consul.address,
            client.address(),
            list(differences.into_iter())
        );
        Finding::fail("follows", detail, SAME_CONSUL)
    } else {
        let word = match consul.state {
            LinkState::Following => "following",
            LinkState::Starting => "starting",
            LinkState::Held | LinkState::Unknown => "unknown",
        };
        let same = if state.is_some() { ", with the same documents as here" } else { "" };
        Finding::ok("follows", format!("{name}: {word}{same}"))
    });
    findings.push(if haproxy.state == ProcessState::Down {
        failed("haproxy", "down", haproxy.detail.as_ref(), haproxy.remedy.as_deref())
    } else {
        let managed = instance.backends.iter().filter(|backend| backend.accepted.is_some()).count();
        Finding::ok("haproxy", format!("{name}: up, weights of {managed} backends are enforced"))
    });
    findings.push(if instance.converged {
        Finding::ok("converged", name.clone())
    } else {
        Finding::warn("converged", format!("{name}: not every weight is as Consul says"), "weightctl status --local")
    });
    findings
}
