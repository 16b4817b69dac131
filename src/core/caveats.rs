//! Why the share of a server is not what its weight says: the backend's algorithm, other owners of weights, backups,
//! slowstart, pinned users.
//!
//! None of it is wrong, and a backend converges all the same. But a person who raises a canary to 1 % should know that it
//! may get half of the traffic.

use crate::{
    observed::{Observed, Owner, Roles, Server},
    reasons::{Reason, Severity, list},
};

/// Every word that is reported here. Each is logged once per HAProxy process, for all backends together.
pub const WORDS: [&str; 9] =
    ["agent_check", "backup", "cookie", "first", "hash", "leastconn", "slowstart", "srv_record", "stick_table"];

/// What makes the shares of a backend differ from its weights, in a stable order. `unsupported` says that it takes no
/// weights at all, which has a reason of its own.
pub fn of(observed: &Observed, roles: Option<&Roles>, unsupported: bool) -> Vec<Reason> {
    let mut reasons = of_owners(observed);
    reasons.extend(of_servers(observed));
    reasons.extend(roles.filter(|_| !unsupported).and_then(|roles| of_algorithm(&roles.algorithm)));
    if roles.is_some_and(|roles| roles.cookie) {
        reasons.push(info(
            "cookie",
            "users that a cookie pins to a server stay there, also at weight 0; weights are for new users",
            "nothing; to move all of them at once, put the server into maintenance on HAProxy's socket",
        ));
    }
    if roles.is_some_and(|roles| roles.stick_table) {
        reasons.push(info(
            "stick_table",
            "users that the backend's stick table pins to a server stay there, also at weight 0, if it has `stick` rules",
            "nothing; to move all of them at once, `clear table` on HAProxy's socket",
        ));
    }
    reasons
}

/// Whether a share that is computed from weights may be shown as a fact.
pub fn shares_are_exact(observed: &Observed, roles: Option<&Roles>) -> bool {
    roles.is_some_and(|roles| roles.algorithm == "roundrobin" && !roles.cookie && !roles.stick_table)
        && observed.servers.iter().all(|server| server.owner.is_none() && !server.starting)
}

fn info(reason: &'static str, detail: impl Into<String>, remedy: &'static str) -> Reason {
    Reason::new(Severity::Info, reason, detail, remedy)
}

/// What else sets weights.
fn of_owners(observed: &Observed) -> Vec<Reason> {
    let owned = |owner| list(observed.servers.iter().filter(|s| s.owner == Some(owner)).map(|s| s.name.as_str()));
    let mut reasons = Vec::new();
    let (agents, records) = (owned(Owner::AgentCheck), owned(Owner::SrvRecord));
    if !agents.is_empty() {
        reasons.push(Reason::new(
            Severity::Warning,
            "agent_check",
            format!("an agent-check may set the weight of {agents}; an answer with a weight overwrites Consul's"),
            "let the agent answer without a weight, or remove `agent-check` from the servers in haproxy.cfg",
        ));
    }
    if !records.is_empty() {
        reasons.push(Reason::new(
            Severity::Warning,
            "srv_record",
            format!("a DNS SRV record sets the weight of {records}; each resolution overwrites Consul's"),
            "add `resolve-opts ignore-weight` to the servers in haproxy.cfg, or name their addresses without SRV records",
        ));
    }
    reasons
}

/// What the servers themselves make of their weights.
fn of_servers(observed: &Observed) -> Vec<Reason> {
    let named = |wanted: fn(&Server) -> bool| {
        list(observed.servers.iter().filter(|server| wanted(server)).map(|server| server.name.as_str()))
    };
    let backups = named(|server| server.backup && !server.weight.is_zero());
    let starting = named(|server| server.starting && !server.weight.is_zero());
    let mut reasons = Vec::new();
    if !backups.is_empty() && observed.any_serving() {
        reasons.push(info(
            "backup",
            format!("{backups}: a backup server gets no traffic while an active server is usable, whatever its weight"),
            "nothing; leave backup servers out of the document where only active ones are to be shifted",
        ));
    }
    if !starting.is_empty() {
        reasons.push(info(
            "slowstart",
            format!("{starting}: in slowstart, so it gets less traffic than its weight says"),
            "nothing: it ends by itself after `slowstart` in haproxy.cfg",
        ));
    }
    reasons
}

fn of_algorithm(algorithm: &str) -> Option<Reason> {
    match algorithm {
        "leastconn" => Some(info(
            "leastconn",
            "`balance leastconn` ignores weights while servers are idle: a small share may get half of the requests",
            "use `balance roundrobin` where shares matter at low load",
        )),
        "first" => Some(info(
            "first",
            "`balance first` fills one server after the other, whatever their weights; only a weight of 0 counts",
            "use `balance roundrobin` where shares matter",
        )),
        "source" | "uri" | "url_param" | "hdr" | "rdp-cookie" | "hash" => Some(info(
            "hash",
            "the algorithm is a hash: shares of users are approximate, and without `hash-type consistent` it takes no weight at runtime except 0 and the configured one",
            "use `hash-type consistent` in the backend and weights of at most 100, or `balance roundrobin`",
        )),
        _ => None,
    }
}
