//! What makes a server's share another than its weight says: the backend's algorithm, agents, pinned users. Pure.
//!
//! Nothing here is wrong, and nothing waits for it: a backend is converged all the same. But whoever raises a canary to
//! 1 % should know that it may get half of the traffic.

use super::reasons::{Reason, Severity};
use crate::observed::{Observed, Roles};

/// Every word that is told of here. Each is logged once in a HAProxy process, for all backends together.
pub const WORDS: [&str; 6] = ["agent_check", "cookie", "first", "hash", "leastconn", "stick_table"];

/// What is untrue of the shares of a backend, in a stable order. `refused` says that it takes no weights at all, which
/// has a reason of its own.
pub fn of(observed: &Observed, roles: Option<&Roles>, refused: bool) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if observed.servers.iter().any(|server| server.agent) {
        reasons.push(Reason {
            severity: Severity::Warning,
            reason: "agent_check",
            detail: "agents are asked about its servers; one that answers with a weight undoes what is set".to_owned(),
            remedy: "let the agent answer without a weight, or remove `agent-check` from the servers in haproxy.cfg",
        });
    }
    let info =
        |reason, detail: &str, remedy| Reason { severity: Severity::Info, reason, detail: detail.into(), remedy };
    reasons.extend(roles.map(|r| r.algorithm.as_str()).filter(|_| !refused).and_then(|algorithm| match algorithm {
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
            "the algorithm is a hash: shares of users are approximate, and no weights but 0 and the configured one are taken without `hash-type consistent`",
            "have `hash-type consistent` in the backend and weights of at most 100, or use `balance roundrobin`",
        )),
        _ => None,
    }));
    if roles.is_some_and(|r| r.cookie) {
        reasons.push(info(
            "cookie",
            "users that a cookie pins to a server stay there, also at weight 0; weights are for new users",
            "nothing; to move all of them at once, put the server into maintenance on HAProxy's socket",
        ));
    }
    if roles.is_some_and(|r| r.stick_table) {
        reasons.push(info(
            "stick_table",
            "users that the backend's stick table pins to a server stay there, also at weight 0, if it has `stick` rules",
            "nothing; to move all of them at once, `clear table` on HAProxy's socket",
        ));
    }
    reasons
}
