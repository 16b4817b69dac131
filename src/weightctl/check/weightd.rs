//! Checks the weightd of this host: it runs, and it follows the documents that weightctl writes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use weightd_core::{
    desired::{Desired, Instruction, Published},
    model::{BackendName, Root},
    reasons::list,
    wire::status::{BackendState, BackendStatus, InstanceStatus, LinkState, ProcessState, Status},
};

use super::{
    Documents, consul,
    finding::{Finding, Section},
};
use crate::{
    consul::Client,
    weightctl::{context::Context, status},
};

/// Minimum duration of a difference in the report. A shorter one may be a document that changed between both reads.
const LASTING: Duration = Duration::from_secs(2);
/// The hint if weightd and weightctl read different documents.
const SAME_CONSUL: &str = "compare `address` and `datacenter` in [consul] of weightd's configuration with --http-addr and --datacenter; \
                           if both are correct, check that weightd's token may read these keys";
/// Interval between two comparisons.
const INTERVAL: Duration = Duration::from_millis(250);

/// Checks the weightd with the API address `api`. `documents` are the documents that weightctl reads.
pub(super) async fn check(
    api: Option<SocketAddr>,
    context: &Context<'_>,
    documents: Option<&Documents>,
    client: Client,
) -> Section {
    let section = |name, findings| Section { part: "weightd", name, findings };
    let Some(address) = api else {
        return section(
            String::new(),
            vec![Finding::skip("runs", "the HTTP API of weightd is off (`listen` in [api])")],
        );
    };
    let name = format!("http://{address}");
    let mut report = match status::read(&name).await {
        Ok(report) => report,
        Err(failure) => {
            let hint = "sudo systemctl start weightd; if it stops again: journalctl -u weightd -n 50";
            return section(name, vec![Finding::fail("runs", format!("{:#}", failure.error), hint)]);
        }
    };
    let root = context.root();
    let mut documents = documents.cloned();
    let client = Arc::new(client);
    let until = Instant::now() + LASTING;
    while documents.as_ref().is_some_and(|documents| differ(&report, &root, documents)) && Instant::now() < until {
        sleep(INTERVAL).await;
        // If this read fails, keep the earlier result.
        if let (Ok(now), Some(documents)) = (consul::documents(&client, &root).await, &mut documents) {
            documents.state = now.state;
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
        findings.extend(of_instance(instance, &root, documents.as_ref(), &client));
    }
    section(name, findings)
}

/// Whether weightd and weightctl read different documents.
fn differ(report: &Status, root: &Root, documents: &Documents) -> bool {
    let same_root = report.instances.iter().filter(|instance| instance.root == root.to_string());
    same_root.filter(|i| i.consul.state == LinkState::Following).any(|i| !differences(i, documents).is_empty())
}

/// The backends for which weightd and weightctl have different documents.
fn differences<'a>(instance: &'a InstanceStatus, Documents { state, complete }: &'a Documents) -> Vec<&'a str> {
    let theirs = |name: &BackendName| instance.backends.iter().find(|backend| backend.backend.as_ref() == Some(name));
    let mut names: Vec<&str> = Vec::new();
    for (name, published) in &state.backends {
        let same = match published {
            // For a rejected key, weightd keeps the last valid document.
            Published::Rejected(_) => true,
            Published::Valid(Instruction::Release { .. }) => {
                let released = |b: &BackendStatus| b.state == BackendState::Released || b.overridden.is_some();
                theirs(name).is_none_or(released)
            }
            Published::Valid(Instruction::Weights(ours) | Instruction::Leaves(ours)) => {
                theirs(name).is_some_and(|backend| {
                    // weightd keeps the weight of a leaf that was deleted from Consul.
                    backend.orphaned || document(backend).is_some_and(|theirs| ours.is_same_document(theirs))
                })
            }
        };
        if !same {
            names.push(name.as_str());
        }
    }
    // Documents that only weightd finds. A team's token cannot read all documents: then there is nothing to compare.
    for backend in instance.backends.iter().filter(|_| *complete) {
        let Some(name) = &backend.backend else { continue };
        if document(backend).is_some() && !backend.orphaned && !state.backends.contains_key(name) {
            names.push(name.as_str());
        }
    }
    names
}

/// The document in Consul as weightd has read it, also while an override is in force instead.
fn document(backend: &BackendStatus) -> Option<&Desired> {
    backend.overridden.as_ref().map_or(backend.desired.as_ref(), |over| over.document.as_ref())
}

/// Checks that weightd follows the root and the datacenter that weightctl uses.
fn same_place(report: &Status, root: &Root, context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut roots: Vec<&str> = report.instances.iter().map(|instance| instance.root.as_str()).collect();
    roots.sort_unstable();
    roots.dedup();
    if !roots.is_empty() && !roots.contains(&root.to_string().as_str()) {
        let detail = format!(
            "weightctl uses root {root}, but weightd follows {}: `set` has no effect on this HAProxy",
            list(roots.iter().copied())
        );
        findings.push(Finding::fail("root", detail, format!("export WEIGHTD_ROOT={}", roots[0])));
    }
    let ours = context.settings().ok().and_then(|settings| settings.datacenter);
    if let (Some(ours), Some(theirs)) = (&ours, &report.datacenter)
        && ours != theirs
    {
        let detail = format!(
            "weightctl uses datacenter {ours}, but weightd follows {theirs}: `set` has no effect on this HAProxy"
        );
        findings.push(Finding::fail("datacenter", detail, format!("use --datacenter {theirs}")));
    }
    findings
}

fn of_instance(instance: &InstanceStatus, root: &Root, documents: Option<&Documents>, client: &Client) -> Vec<Finding> {
    let (name, consul, haproxy) = (&instance.name, &instance.consul, &instance.haproxy);
    let failed = |check: &'static str, word: &str, detail: Option<&String>, remedy: Option<&str>| {
        let remedy = remedy.unwrap_or_default().replace("<root>", &instance.root);
        Finding::fail(check, format!("{name}: {word}: {}", detail.map_or("", String::as_str)), remedy)
    };
    let documents = documents.filter(|_| instance.root == root.to_string());
    let differences = documents.map_or_else(Vec::new, |documents| differences(instance, documents));
    let mut findings = Vec::new();
    findings.push(if consul.state == LinkState::Held {
        failed("follows", "held", consul.detail.as_ref(), consul.remedy.as_deref())
    } else if consul.empty && documents.is_some_and(|documents| !documents.state.backends.is_empty()) {
        let prefix = root.weights_prefix();
        let (theirs, ours) = (&consul.address, client.address().to_string());
        if *theirs == ours {
            let detail =
                format!("{name}: weightd finds no document but weightctl does: weightd's token may not read {prefix}");
            let rule = format!("key_prefix \"{prefix}\" {{ policy = \"read\" }}");
            let hint = format!("add `{rule}` to a policy of weightd's token, then run `sudo systemctl reload weightd`");
            Finding::fail("follows", detail, hint)
        } else {
            let detail = format!("{name}: weightd finds no document at {theirs}; weightctl finds documents at {ours}");
            Finding::fail("follows", detail, SAME_CONSUL)
        }
    } else if !differences.is_empty() {
        let detail = format!(
            "{name}: weightd (Consul at {}) and weightctl (Consul at {}) read different documents: {}",
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
        let same = if documents.is_some() { ", the same documents as weightctl" } else { "" };
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
        Finding::warn(
            "converged",
            format!("{name}: some weights in HAProxy differ from Consul"),
            "weightctl status --local",
        )
    });
    findings
}
