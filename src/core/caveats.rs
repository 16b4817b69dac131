//! Reasons why the share of a server differs from its weight: the balance algorithm, other owners of weights, backup
//! servers, slowstart, persistence of sessions.
//!
//! None of them is an error, and the backend still converges. But a person who sets a canary to 1 % must know that it
//! can get half of the traffic.

use crate::{
    expand::Expansion,
    observed::{Observed, Owner, Roles, Server},
    reasons::{Reason, Severity, list},
};

/// All reason codes of this module. Each is logged once per HAProxy process, for all backends together.
pub const WORDS: [&str; 11] = [
    "agent_check",
    "backup",
    "cookie",
    "first",
    "hash",
    "leastconn",
    "slowstart",
    "split_down",
    "split_inexact",
    "srv_record",
    "stick_table",
];

/// Returns the reasons why the shares of a backend differ from its weights, in a stable order. `unsupported` means that
/// the backend accepts no weights. That has its own reason, so the algorithm is then not reported.
pub fn reasons(observed: &Observed, roles: Option<&Roles>, unsupported: bool) -> Vec<Reason> {
    let mut reasons = owner_reasons(observed);
    reasons.extend(server_reasons(observed));
    reasons.extend(roles.filter(|_| !unsupported).and_then(|roles| algorithm_reason(&roles.algorithm)));
    if roles.is_some_and(|roles| roles.cookie) {
        reasons.push(info(
            "cookie",
            "a cookie pins users to a server, also at weight 0; weights apply only to new users",
            "nothing; to move all users at once, set the server to maintenance on HAProxy's socket",
        ));
    }
    if roles.is_some_and(|roles| roles.stick_table) {
        reasons.push(info(
            "stick_table",
            "the backend has a stick table; if it has `stick` rules, it pins users to a server, also at weight 0",
            "nothing; to move all users at once, run `clear table` on HAProxy's socket",
        ));
    }
    reasons
}

/// Whether the shares follow exactly from the weights.
pub fn shares_are_exact(observed: &Observed, roles: Option<&Roles>) -> bool {
    roles.is_some_and(|roles| roles.algorithm == "roundrobin" && !roles.cookie && !roles.stick_table)
        && observed.servers.iter().all(|server| server.owner.is_none() && !server.starting)
}

/// The difference between a share and the wanted one that is reported, in percentage points.
const INEXACT: f64 = 1.0;

/// Returns the reasons why the shares of a split differ from the wanted ones on this HAProxy.
pub fn of_split(observed: &Observed, expansion: &Expansion) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let serves = |server: &&Server| {
        let named = expansion.weights.get(&server.name).is_some_and(|weight| !weight.is_zero());
        named && !server.slot && !server.administered && !server.backup
    };
    let down = observed.servers.iter().filter(serves).filter(|server| !server.usable(true));
    let down = list(down.map(|server| server.name.as_str()));
    if !down.is_empty() {
        reasons.push(info(
            "split_down",
            format!(
                "{down}: down, and counted for the share of its group; HAProxy gives its traffic to all other servers"
            ),
            "start the server, or set it to maintenance: then the other servers of its group get its share",
        ));
    }
    if expansion.error > INEXACT {
        reasons.push(info(
            "split_inexact",
            format!("no weights give these shares: the closest ones differ by {:.1} points", expansion.error),
            "use fewer servers in the group with the small share, or another share",
        ));
    }
    reasons
}

fn info(reason: &'static str, detail: impl Into<String>, remedy: &'static str) -> Reason {
    Reason::new(Severity::Info, reason, detail, remedy)
}

/// Returns the reasons about other owners of weights.
fn owner_reasons(observed: &Observed) -> Vec<Reason> {
    let owned = |owner| list(observed.servers.iter().filter(|s| s.owner == Some(owner)).map(|s| s.name.as_str()));
    let mut reasons = Vec::new();
    let (agents, records) = (owned(Owner::AgentCheck), owned(Owner::SrvRecord));
    if !agents.is_empty() {
        reasons.push(Reason::new(
            Severity::Warning,
            "agent_check",
            format!("an agent-check may set the weight of {agents}; it overwrites the weight from Consul"),
            "configure the agent to answer without a weight, or remove `agent-check` from the servers in haproxy.cfg",
        ));
    }
    if !records.is_empty() {
        reasons.push(Reason::new(
            Severity::Warning,
            "srv_record",
            format!("a DNS SRV record sets the weight of {records}; each resolution overwrites the weight from Consul"),
            "add `resolve-opts ignore-weight` to the servers in haproxy.cfg, or use addresses without SRV records",
        ));
    }
    reasons
}

/// Returns the reasons about single servers.
fn server_reasons(observed: &Observed) -> Vec<Reason> {
    let named = |wanted: fn(&Server) -> bool| {
        list(observed.servers.iter().filter(|server| wanted(server)).map(|server| server.name.as_str()))
    };
    let backups = named(|server| server.backup && !server.weight.is_zero());
    let starting = named(|server| server.starting && !server.weight.is_zero());
    let mut reasons = Vec::new();
    if !backups.is_empty() && observed.any_serving() {
        reasons.push(info(
            "backup",
            format!("{backups}: a backup server gets no traffic while an active server is usable, at any weight"),
            "nothing; to shift only active servers, leave backup servers out of the document",
        ));
    }
    if !starting.is_empty() {
        reasons.push(info(
            "slowstart",
            format!("{starting}: in slowstart, with less traffic than the weight gives"),
            "nothing: slowstart ends after the time in haproxy.cfg",
        ));
    }
    reasons
}

fn algorithm_reason(algorithm: &str) -> Option<Reason> {
    match algorithm {
        "leastconn" => Some(info(
            "leastconn",
            "`balance leastconn` ignores weights while servers are idle: a server with a small weight can get half of the requests",
            "use `balance roundrobin` if shares matter at low load",
        )),
        "first" => Some(info(
            "first",
            "`balance first` fills one server after the other and ignores weights above 0",
            "use `balance roundrobin` if shares matter",
        )),
        "source" | "uri" | "url_param" | "hdr" | "rdp-cookie" | "hash" => Some(info(
            "hash",
            "the algorithm is a hash: shares are approximate, and without `hash-type consistent` it accepts only weight 0 and the configured weight at runtime",
            "use `hash-type consistent` in the backend and weights of at most 100, or `balance roundrobin`",
        )),
        _ => None,
    }
}
