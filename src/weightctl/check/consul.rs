//! Checks Consul: the leader, the token, its rights, and every document.
//!
//! A hint grants the narrowest rule: read for a token that reads, write of one backend for a token that writes.

use std::{sync::Arc, time::Duration};

use weightd_core::{
    desired::{DesiredState, Published, Rejected},
    fleet::Keys,
    model::{BackendName, Root},
    reasons::list,
};

use super::finding::{Finding, Section};
use crate::{
    base::clock::Clock,
    consul::{
        Client, ConsulError,
        client::MAX_TXN,
        rights::Identity,
        watch::{Feed, Watch},
    },
    weightctl::{context::Context, failure::Failure, refusals::failed},
};

/// Maximum number of invalid keys in the report.
const SHOWN: usize = 20;
/// The right that the command in the hint needs.
const NEEDS_ACL_WRITE: &str = "the command in the hint needs a token with `acl = \"write\"`";
/// A name that no backend has. The rights on it are the rights on backends without a document.
const NO_BACKEND: &str = "-weightctl-check-";

/// The result of the Consul checks.
pub(super) struct Checked {
    pub(super) section: Section,
    /// The documents; none if the read failed.
    pub(super) state: Option<Arc<DesiredState>>,
    /// Whether the token can read every document.
    pub(super) complete: bool,
}

/// Checks Consul. `read_only` omits the check of the write rights.
pub(super) async fn check(context: &Context<'_>, read_only: bool) -> Result<Checked, Failure> {
    let (client, root) = (Arc::new(context.client()?), context.root());
    let name = format!("{}, root {root}", client.address());
    let mut checks = Checks { client, root, read_only, findings: Vec::new(), accessor: None, complete: false };
    let state = checks.all().await;
    let complete = checks.complete;
    Ok(Checked { section: Section { part: "consul", name, findings: checks.findings }, state, complete })
}

/// The documents, read with weightd's own code: the same limits and the same validation apply.
pub(super) struct Documents {
    pub(super) state: Arc<DesiredState>,
    /// Whether ACLs hide keys from this token.
    filtered: bool,
    /// Whether Consul returned no key.
    empty: bool,
}

/// Reads the documents.
pub(super) async fn documents(client: &Arc<Client>, root: &Root) -> Result<Documents, ConsulError> {
    let (mut watch, followed) = Watch::new(Arc::clone(client), root.weights_prefix(), Duration::ZERO, Clock::start());
    watch.read_once().await?;
    let link = followed.link.borrow();
    match &*followed.feed.borrow() {
        Feed::State { state, .. } => {
            Ok(Documents { state: Arc::clone(state), filtered: link.filtered, empty: link.empty })
        }
        Feed::Waiting | Feed::Unavailable => Err(ConsulError::NoIndex),
    }
}

/// The backends that a token may write.
enum Scope {
    /// Every backend.
    All,
    /// This one, and perhaps some others.
    One(String),
}

impl Scope {
    fn name(&self) -> &str {
        match self {
            Self::All => "every backend",
            Self::One(backend) => backend,
        }
    }
}

struct Checks {
    client: Arc<Client>,
    root: Root,
    read_only: bool,
    findings: Vec<Finding>,
    /// The token's accessor, if Consul knows the token.
    accessor: Option<String>,
    /// Whether the token can read every document.
    complete: bool,
}

impl Checks {
    async fn all(&mut self) -> Option<Arc<DesiredState>> {
        if !self.leader().await {
            return None;
        }
        self.token().await;
        let state = self.documents().await;
        if !self.read_only
            && let Some(scope) = self.write(state.as_deref()).await
        {
            self.observe(&scope).await;
        }
        if let Some(state) = &state {
            self.rejected(state);
        }
        state
    }

    /// Adds a failure for `error`.
    fn failed(&mut self, check: &'static str, error: ConsulError) {
        let unreachable = matches!(error, ConsulError::Unreachable { .. });
        let failure = failed(error, "");
        let hint = if unreachable {
            "sudo systemctl start consul; if Consul runs elsewhere: export CONSUL_HTTP_ADDR=HOST:PORT".to_owned()
        } else {
            failure.hint.unwrap_or_default()
        };
        self.findings.push(Finding::fail(check, format!("{:#}", failure.error), hint));
    }

    async fn leader(&mut self) -> bool {
        match self.client.leader().await {
            Ok(Some(leader)) => {
                self.findings.push(Finding::ok("leader", leader));
                true
            }
            Ok(None) => {
                let detail = "Consul has no leader: reads and writes fail";
                self.findings.push(Finding::fail(
                    "leader",
                    detail,
                    "start the Consul servers that are down; `consul operator raft list-peers -stale` lists all servers",
                ));
                false
            }
            Err(error) => {
                self.failed("answers", error);
                false
            }
        }
    }

    async fn token(&mut self) {
        match self.client.identity().await {
            Ok(Identity::NoAcls) => self.findings.push(Finding::ok("token", "ACLs are disabled in this Consul")),
            Ok(Identity::Known { accessor, policies, .. }) => {
                let policies = if policies.is_empty() { "none".to_owned() } else { policies.join(", ") };
                self.findings.push(Finding::ok("token", format!("accessor {accessor}, policies: {policies}")));
                self.accessor = Some(accessor);
            }
            Ok(Identity::Unknown) => {
                if self.client.has_token() {
                    let detail =
                        "Consul does not know this token: it was deleted, has expired, or belongs to another Consul";
                    self.findings.push(Finding::fail("token", detail, self.grant("read", &self.read_rule())));
                } else {
                    self.findings
                        .push(Finding::ok("token", "no token is set: the rights of the anonymous token apply"));
                }
            }
            Err(error) => self.failed("token", error),
        }
    }

    /// The ACL rule that allows to read all documents.
    fn read_rule(&self) -> String {
        format!("key_prefix \"{}\" {{ policy = \"read\" }}", self.root.weights_prefix())
    }

    /// The command that adds `rules` to this token, or creates a token with them. It needs a token with
    /// `acl = "write"`.
    fn grant(&self, policy: &str, rules: &str) -> String {
        let create = |name: &str| format!("consul acl policy create -name {name} -rules '{rules}'");
        if let Some(accessor) = &self.accessor {
            let name = format!("weightctl-{policy}-{}", accessor.split('-').next().unwrap_or_default());
            format!("{} && consul acl token update -id {accessor} -merge-policies -policy-name {name}", create(&name))
        } else {
            let name = format!("weightctl-{policy}");
            let secret = "sed -n 's/.*\"SecretID\": \"\\(.*\\)\".*/\\1/p'";
            let token = format!("consul acl token create -policy-name {name} -format json | {secret}");
            format!("{}; export CONSUL_HTTP_TOKEN=\"$({token})\"", create(&name))
        }
    }

    async fn documents(&mut self) -> Option<Arc<DesiredState>> {
        let prefix = self.root.weights_prefix();
        let answer = async {
            let documents = documents(&self.client, &self.root).await?;
            // A list omits the keys that the token may not read. Only the read of a single key returns a denial.
            match self.client.may_read(&format!("{prefix}{NO_BACKEND}")).await {
                Ok(()) => Ok((documents, true)),
                Err(ConsulError::Denied(_)) if !documents.empty => Ok((documents, false)),
                Err(error) => Err(error),
            }
        };
        match answer.await {
            Ok((Documents { state, filtered, empty }, may_read_all)) => {
                self.complete = may_read_all && !filtered;
                self.findings.push(if self.complete {
                    Finding::ok("read", format!("this token may read {prefix}"))
                } else {
                    // The token of a team: it covers the team's own backends.
                    let names = list(state.backends.keys().map(BackendName::as_str));
                    Finding::ok("read", format!("this token may read {names}, but not every key below {prefix}"))
                });
                if empty {
                    let hint = self.elsewhere().await;
                    self.findings.push(Finding::warn("documents", format!("there is no key below {prefix}"), hint));
                } else {
                    let valid =
                        state.backends.values().filter(|published| matches!(published, Published::Valid(_))).count();
                    self.findings.push(Finding::ok("documents", format!("{valid} valid")));
                }
                Some(state)
            }
            Err(ConsulError::Denied(_)) => {
                let detail = format!("this token may not read {prefix}; {NEEDS_ACL_WRITE}");
                self.findings.push(Finding::fail("read", detail, self.grant("read", &self.read_rule())));
                None
            }
            Err(error) => {
                self.failed("read", error);
                None
            }
        }
    }

    /// The hint if there is no key: another root that has documents, else the command that writes the first document.
    async fn elsewhere(&self) -> String {
        let create = "weightctl set BACKEND SERVER=WEIGHT … --create".to_owned();
        // The token may not be allowed to list other keys.
        let Ok(segments) = self.client.first_segments().await else { return create };
        for root in segments.iter().filter(|segment| segment.ends_with('/')).filter_map(|s| s.parse::<Root>().ok()) {
            let prefix = root.weights_prefix();
            let found = self.client.list(&prefix, None).await.is_ok_and(|l| l.entries().is_ok_and(|e| !e.is_empty()));
            if root != self.root && found {
                return format!("export WEIGHTD_ROOT={root}");
            }
        }
        create
    }

    /// Checks the rights on documents. Returns the backends that the token may write; none if it may write none.
    async fn write(&mut self, state: Option<&DesiredState>) -> Option<Scope> {
        let prefix = self.root.weights_prefix();
        let names: Vec<_> = state.iter().flat_map(|state| state.backends.keys()).take(MAX_TXN - 1).collect();
        let keys: Vec<_> = std::iter::once(format!("{prefix}{NO_BACKEND}"))
            .chain(names.iter().map(|name| format!("{prefix}{name}")))
            .collect();
        match self.client.may_write(&keys).await {
            Ok(may) if may.first() == Some(&true) => {
                self.findings.push(Finding::ok("write", format!("`set` and `release` may write below {prefix}")));
                Some(Scope::All)
            }
            Ok(may) => {
                let own = names.iter().zip(may.iter().skip(1)).filter(|(_, may)| **may).map(|(name, _)| name.as_str());
                let own: Vec<_> = own.collect();
                let scope = own.first().map(|name| Scope::One((*name).to_owned()));
                self.findings.push(if own.is_empty() {
                    // A node or a reader is not offered a right that it does not need.
                    let detail = format!(
                        "this token may write no backend below {prefix}; a node or a reader needs no more; whoever writes a \
                         backend needs `key \"{prefix}BACKEND\" {{ policy = \"write\" }}`"
                    );
                    Finding::skip("write", detail)
                } else {
                    Finding::ok(
                        "write",
                        format!("`set` and `release` may write {} and no other backend", own.join(", ")),
                    )
                });
                scope
            }
            Err(error) => {
                self.failed("write", error);
                None
            }
        }
    }

    /// Checks the rights to ask the nodes about a backend. Without them, writes still work.
    async fn observe(&mut self, scope: &Scope) {
        let keys = Keys(&self.root);
        let (backend, may_be_any) = match scope {
            Scope::All => (NO_BACKEND, true),
            Scope::One(backend) => (backend.as_str(), false),
        };
        let (observed, mark) = (format!("{}{backend}/", keys.observes()), keys.observe_marker());
        let may_write = self.client.may_write(&[format!("{observed}{NO_BACKEND}"), mark.clone()]).await;
        let may_read = match self.client.may_read(&format!("{}{NO_BACKEND}", keys.counters())).await {
            Ok(()) => Ok(true),
            Err(ConsulError::Denied(_)) => Ok(false),
            Err(error) => Err(error),
        };
        let (may_write, may_read) = match (may_write, may_read) {
            (Ok(may_write), Ok(may_read)) => (may_write, may_read),
            (Err(error), _) | (_, Err(error)) => return self.failed("observe", error),
        };
        let observations = if may_be_any { keys.observes() } else { observed };
        let rules = [
            (may_write.first() == Some(&true), format!("key_prefix \"{observations}\" {{ policy = \"write\" }}")),
            (may_be_any || may_write.get(1) == Some(&true), format!("key \"{mark}\" {{ policy = \"write\" }}")),
            (may_read, format!("key_prefix \"{}\" {{ policy = \"read\" }}", keys.counters())),
        ];
        let missing: Vec<_> = rules.iter().filter(|(may, _)| !may).map(|(_, rule)| rule.as_str()).collect();
        self.findings.push(if missing.is_empty() {
            Finding::ok("observe", format!("this token may ask the nodes about {}", scope.name()))
        } else {
            let detail = format!(
                "this token may not ask the nodes about {}: previews and `shift` do not know what HAProxy has, and \
                 `traffic` shows nothing; {NEEDS_ACL_WRITE}",
                scope.name()
            );
            Finding::warn("observe", detail, self.grant("observe", &missing.join(" ")))
        });
    }

    fn rejected(&mut self, state: &DesiredState) {
        let rejected = state.backends.values().filter_map(|published| match published {
            Published::Rejected(rejected) => Some(rejected),
            Published::Valid(_) => None,
        });
        let all: Vec<&Arc<Rejected>> = rejected.chain(&state.stray).collect();
        for rejected in all.iter().take(SHOWN) {
            let Rejected { key, reason, .. } = &***rejected;
            // Deleting the key changes no weight: the last accepted document stays in force.
            let hint = format!("{}; or `consul kv delete {}`, then write it again", reason.remedy(), quoted(key));
            let detail = format!("{key}: {reason}; the weights that were accepted last stay in force");
            self.findings.push(Finding::fail("document", detail, hint));
        }
        let left_out = all.len().saturating_sub(SHOWN) + state.stray_total.saturating_sub(state.stray.len());
        if left_out > 0 {
            self.findings.push(Finding::fail(
                "document",
                format!("{left_out} more keys are rejected"),
                "weightctl list",
            ));
        }
    }
}

/// `key`, quoted for a shell if necessary.
fn quoted(key: &str) -> String {
    if key.chars().all(|c| c.is_ascii_alphanumeric() || "_./:-".contains(c)) {
        key.to_owned()
    } else {
        format!("'{}'", key.replace('\'', r"'\''"))
    }
}
