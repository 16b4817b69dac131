//! What is: the servers of one backend as HAProxy reports them.
//!
//! Owns what a row of `show servers state` and of `show stat` means: which weight is the truth, which server is usable,
//! what else may set a weight. Must never do I/O and never decide what should change.
//!
//! The truth is `srv_uweight` of `show servers state`, the weight that was set last. `show stat` reports the effective
//! weight, which differs during slowstart and, in some versions, in maintenance.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{BackendName, ServerName, Weight};

/// One row of `show servers state`, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRow<'a> {
    /// `be_id`: identifies a backend, and no frontend of the same name.
    pub backend_id: u32,
    /// `be_name`.
    pub backend: &'a str,
    /// `srv_id`. HAProxy reuses the id of a server that was deleted at runtime.
    pub server_id: u32,
    /// `srv_name`.
    pub server: &'a str,
    /// `srv_op_state`: 0 stopped, 1 starting (slowstart), 2 running, 3 stopping.
    pub op_state: u8,
    /// `srv_admin_state`: bits, see [`ADMINISTERED`].
    pub admin_state: u32,
    /// `srv_uweight`: the weight that was set.
    pub weight: Weight,
    /// `srv_iweight`: the weight of the configuration, or of `add server`.
    pub initial: Weight,
    /// `srv_time_since_last_change`, in seconds: of the server's state, not of its weight. A server that is added at
    /// runtime begins at 0.
    pub last_change: u64,
    /// `srv_check_status`: up to 2 no check has ended in this process.
    pub check_status: u8,
    /// `srv_check_state`: bit [`CHECK_ENABLED`] means that the server is checked.
    pub check_state: u16,
    /// `srv_agent_state`: the same bit means that an agent is asked, which may set the weight.
    pub agent_state: u16,
    /// Whether `srvrecord` names a DNS record, whose weights HAProxy applies.
    pub srv_record: bool,
    /// `srv_port`. Above 65535 it is a negative offset, of a server whose port is relative to its client's.
    pub port: u32,
}

/// The bits that take a server out: maintenance that was set (0x01), inherited (0x02) or due to a missing address (0x20),
/// drain that was set (0x08) or inherited (0x10). Not among them: 0x04, which only remembers that the configuration
/// says `disabled`, also after the server was set ready, and 0x40, which remembers that its name was changed
/// (HAProxy's `SRV_ADMF_MAINT` and `SRV_ADMF_DRAIN`).
pub const ADMINISTERED: u32 = 0x3b;
/// Drain that was set (0x08) or inherited (0x10).
const DRAIN: u32 = 0x18;
/// Maintenance because a name has no address: an empty slot of a `server-template`.
const NO_ADDRESS: u32 = 0x20;
/// `CHK_ST_ENABLED`.
pub const CHECK_ENABLED: u16 = 0x04;
/// `HCHK_STATUS_START`: results are above it.
const CHECK_STARTED: u8 = 2;
/// `SRV_ST_STARTING`: in slowstart.
const STARTING: u8 = 1;

/// What `show stat` says about a backend and `show servers state` does not: read once per process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles {
    /// `algo` of the backend's row; empty where HAProxy does not say.
    pub algorithm: String,
    /// Whether a cookie pins users: `cookie` of the backend's row has its name.
    pub cookie: bool,
    /// Whether the backend has a stick table, as `show table` says. It may pin users, or only count them.
    pub stick_table: bool,
    /// Whether the backend is disabled: then HAProxy says nothing else about it.
    pub disabled: bool,
    /// The servers that are not plain active ones.
    pub servers: BTreeMap<ServerName, Role>,
}

/// What is special about a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// `bck`: takes traffic only when all active servers are down.
    pub backup: bool,
    /// `tracked`: the server whose health this one takes.
    pub tracked: Option<(BackendName, ServerName)>,
}

impl Roles {
    /// Whether the algorithm is known to take any weight at runtime. `source`, `uri`, `hdr` and the like are dynamic only
    /// with `hash-type consistent`, which HAProxy does not report; `static-rr` never is; `random` is reported as
    /// `unknown`.
    pub fn known_dynamic(&self) -> bool {
        matches!(self.algorithm.as_str(), "roundrobin" | "leastconn" | "first" | "random")
    }

    /// Whether the algorithm is known to take no weight at runtime. `false` does not mean that it takes one.
    pub fn known_static(&self) -> bool {
        self.algorithm == "static-rr"
    }
}

/// What is known about a server's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It runs, according to a check of this process or because nothing checks it.
    Up,
    /// It does not run.
    Down,
    /// It is checked, but no check has ended in this process. The value is its last health in the process before, if any.
    Unproven(Option<bool>),
}

/// A program or a person other than weightd that sets weights, as far as HAProxy shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// An agent-check: its answer may carry a weight, which HAProxy applies at each interval.
    AgentCheck,
    /// A DNS SRV record: HAProxy applies its weight at each resolution.
    SrvRecord,
}

/// A server as HAProxy reports it.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact, and all combinations occur")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its number in the backend.
    pub id: u32,
    /// Its port; none where it has no fixed one.
    pub port: Option<u16>,
    /// The weight that was set: the truth.
    pub weight: Weight,
    /// The weight of the configuration.
    pub initial: Weight,
    /// What is known about its health.
    pub health: Health,
    /// In maintenance or drain.
    pub administered: bool,
    /// In drain: no new traffic, but users that are pinned to it.
    pub drain: bool,
    /// A slot without an address: no server yet.
    pub slot: bool,
    /// Takes traffic only when all active servers are down.
    pub backup: bool,
    /// In slowstart: it gets less traffic than its weight says.
    pub starting: bool,
    /// What else may set its weight.
    pub owner: Option<Owner>,
}

impl Server {
    /// Whether it could take new traffic if its weight were above 0. `above_zero` says whether it already is: that
    /// decides for a server with unknown health.
    pub fn usable(&self, above_zero: bool) -> bool {
        !self.backup && self.running(above_zero)
    }

    /// Whether it runs and nobody has taken it out, as an active or as a backup server.
    fn running(&self, above_zero: bool) -> bool {
        !self.administered
            && !self.slot
            && match self.health {
                Health::Up | Health::Unproven(Some(true)) => true,
                Health::Down | Health::Unproven(Some(false)) => false,
                Health::Unproven(None) => above_zero,
            }
    }
}

/// The servers of one backend, in HAProxy's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Its servers.
    pub servers: Vec<Server>,
    /// Whether the algorithm is known to take any weight at runtime.
    pub known_dynamic: bool,
}

/// Why a server is new: it was not there at the last reading of this process.
///
/// A server that was deleted and added again between two readings has its old name and usually its old id. What gives it
/// away is that its state changed since then and that its configured weight is another one, or that it still has the
/// weight it was added with although another one was set.
fn is_new(row: &ServerRow<'_>, before: Option<&Server>, elapsed: Duration) -> bool {
    let Some(before) = before else { return true };
    let changed_since = Duration::from_secs(row.last_change) <= elapsed + Duration::from_secs(1);
    before.id != row.server_id
        || changed_since && (before.initial != row.initial || row.weight == row.initial && before.weight != row.weight)
}

impl Observed {
    /// Combines what HAProxy says now with what was known before.
    ///
    /// `before` is the last observation, of this process or the one before it: its health stands in where this process has
    /// not checked yet. `tracked` returns the health of a server that others track.
    pub fn new(
        rows: &[ServerRow<'_>],
        roles: Option<&Roles>,
        before: Option<&Self>,
        tracked: &dyn Fn(&BackendName, &ServerName) -> Option<Health>,
    ) -> Self {
        let servers = rows
            .iter()
            .enumerate()
            .filter_map(|(at, row)| {
                let before = before.and_then(|before| before.former(at, row));
                let name = match before {
                    Some(server) => server.name.clone(),
                    // A name outside HAProxy's own rule cannot come from HAProxy, nor could it be sent back.
                    None => ServerName::new(row.server).ok()?,
                };
                let role = roles.and_then(|r| r.servers.get(&name));
                Some(Server {
                    id: row.server_id,
                    port: u16::try_from(row.port).ok(),
                    weight: row.weight,
                    initial: row.initial,
                    health: health(row, role, before.map(|s| s.health), tracked),
                    administered: row.admin_state & ADMINISTERED != 0,
                    drain: row.admin_state & DRAIN != 0,
                    slot: row.admin_state & NO_ADDRESS != 0,
                    backup: role.is_some_and(|r| r.backup),
                    starting: row.op_state == STARTING,
                    owner: owner(row),
                    name,
                })
            })
            .collect();
        Self { servers, known_dynamic: roles.is_some_and(Roles::known_dynamic) }
    }

    /// The names of the servers in `rows` that are new since this observation, which is `elapsed` old. A server with
    /// another weight that is not new was changed by somebody.
    pub fn added<'r>(&'r self, rows: &'r [ServerRow<'r>], elapsed: Duration) -> impl Iterator<Item = ServerName> + 'r {
        let new = move |(at, row): &(usize, &ServerRow<'_>)| is_new(row, self.former(*at, row), elapsed);
        rows.iter().enumerate().filter(new).filter_map(|(_, row)| ServerName::new(row.server).ok())
    }

    /// The server of `row`'s name. Rows keep their order, so that it is nearly always at the same place.
    fn former(&self, at: usize, row: &ServerRow<'_>) -> Option<&Server> {
        match self.servers.get(at) {
            Some(server) if server.name.as_str() == row.server => Some(server),
            _ => self.servers.iter().find(|s| s.name.as_str() == row.server),
        }
    }

    /// The server of that name.
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.iter().find(|s| s.name == *name)
    }

    /// Whether any server could take traffic if its weight were above 0.
    pub fn any_usable(&self) -> bool {
        self.servers.iter().any(|s| s.usable(!s.weight.is_zero()))
    }

    /// Whether a backup takes the traffic that no active server takes.
    pub fn any_backup_serving(&self) -> bool {
        self.serving().any(|server| server.backup)
    }

    /// Whether an active server is usable and above 0.
    pub fn any_serving(&self) -> bool {
        self.servers.iter().any(|s| !s.weight.is_zero() && s.usable(true))
    }

    /// The servers that new traffic goes to: the active ones that are usable and above 0, or the backups if there is none.
    /// Of the backups, HAProxy uses the first one only, unless the backend has `option allbackups`, which it does not
    /// report.
    pub fn serving(&self) -> impl Iterator<Item = &Server> {
        let active = self.any_serving();
        let serves = move |server: &&Server| {
            !server.weight.is_zero()
                && if active { server.usable(true) } else { server.backup && server.running(true) && known_up(server) }
        };
        self.servers.iter().filter(serves)
    }
}

/// A backup is only counted on when it is known to run.
fn known_up(server: &Server) -> bool {
    server.health == Health::Up
}

fn owner(row: &ServerRow<'_>) -> Option<Owner> {
    if row.agent_state & CHECK_ENABLED != 0 {
        Some(Owner::AgentCheck)
    } else {
        row.srv_record.then_some(Owner::SrvRecord)
    }
}

fn health(
    row: &ServerRow<'_>,
    role: Option<&Role>,
    before: Option<Health>,
    tracked: &dyn Fn(&BackendName, &ServerName) -> Option<Health>,
) -> Health {
    if !matches!(row.op_state, 1 | 2) {
        return Health::Down;
    }
    let unproven = || match before {
        Some(Health::Up) => Health::Unproven(Some(true)),
        Some(Health::Down) => Health::Unproven(Some(false)),
        Some(Health::Unproven(known)) => Health::Unproven(known),
        None => Health::Unproven(None),
    };
    if let Some((backend, server)) = role.and_then(|r| r.tracked.as_ref()) {
        // HAProxy passes on at once that a tracked server went down, but not that it was never checked.
        return match tracked(backend, server) {
            Some(Health::Up) => Health::Up,
            Some(Health::Down) => Health::Down,
            Some(Health::Unproven(Some(known))) => Health::Unproven(Some(known)),
            Some(Health::Unproven(None)) | None => unproven(),
        };
    }
    if row.check_state & CHECK_ENABLED != 0 && row.check_status <= CHECK_STARTED { unproven() } else { Health::Up }
}

/// Why HAProxy did not set a weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The backend no longer exists.
    #[error("HAProxy has no such backend")]
    NoBackend,
    /// The server no longer exists.
    #[error("HAProxy has no such server")]
    NoServer,
    /// The backend is disabled, or the process that answers is an old one after a reload.
    #[error("the backend is disabled")]
    Disabled,
    /// The algorithm takes only 0 and the configured weight at runtime.
    #[error("the backend's balance algorithm is static: it takes only 0 and the configured weight at runtime")]
    StaticAlgorithm,
    /// The socket is not of level admin.
    #[error("the socket's level does not permit it")]
    Denied,
    /// An unknown text.
    #[error("HAProxy answered {0:?}")]
    Other(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: &str) -> ServerRow<'_> {
        ServerRow {
            backend_id: 3,
            backend: "app",
            server_id: 1,
            server,
            op_state: 2,
            admin_state: 0,
            weight: Weight::MAX,
            initial: Weight::MAX,
            check_status: 6,
            check_state: CHECK_ENABLED,
            agent_state: 0,
            srv_record: false,
            last_change: 100,
            port: 80,
        }
    }

    fn observe(row: ServerRow<'_>, before: Option<&Observed>) -> Observed {
        Observed::new(&[row], None, before, &|_, _| None)
    }

    #[test]
    fn a_running_server_is_usable_and_a_stopped_or_stopping_one_is_not() {
        for (op_state, usable) in [(0, false), (1, true), (2, true), (3, false)] {
            assert_eq!(observe(ServerRow { op_state, ..row("a") }, None).any_usable(), usable, "{op_state}");
        }
    }

    #[test]
    fn maintenance_and_drain_make_a_server_unusable() {
        for bit in [0x01, 0x02, 0x08, 0x10, 0x20] {
            assert!(!observe(ServerRow { admin_state: bit, ..row("a") }, None).any_usable(), "{bit:#x}");
        }
        for memory in [0x04, 0x40] {
            assert!(observe(ServerRow { admin_state: memory, ..row("a") }, None).any_usable(), "{memory:#x}");
        }
    }

    #[test]
    fn a_server_without_a_check_result_counts_only_if_it_is_above_zero_already() {
        let fresh = ServerRow { check_status: 1, ..row("a") };
        assert!(observe(fresh, None).any_usable());
        assert!(!observe(ServerRow { weight: Weight::ZERO, ..fresh }, None).any_usable());
        let unchecked = ServerRow { check_state: 0, weight: Weight::ZERO, ..fresh };
        assert!(observe(unchecked, None).any_usable(), "nothing checks it: it runs");
    }

    #[test]
    fn the_health_of_the_process_before_stands_in_until_the_first_check() {
        let fresh = ServerRow { check_status: 1, ..row("a") };
        let down = observe(ServerRow { op_state: 0, ..row("a") }, None);
        let after = observe(fresh, Some(&down));
        assert!(!after.any_usable());
        assert!(!observe(fresh, Some(&after)).any_usable(), "and over a second reload");
        assert!(observe(row("a"), Some(&after)).any_usable(), "until a check has ended");
        let up = observe(row("a"), None);
        assert!(observe(ServerRow { weight: Weight::ZERO, ..fresh }, Some(&up)).any_usable());
    }

    #[test]
    fn a_tracking_server_has_the_health_of_the_tracked_one() {
        let tracked = (BackendName::new("other").unwrap(), ServerName::new("x").unwrap());
        let role = Role { backup: false, tracked: Some(tracked) };
        let roles = Roles { servers: [(ServerName::new("a").unwrap(), role)].into(), ..Roles::default() };
        let unchecked = ServerRow { check_state: 0, weight: Weight::ZERO, ..row("a") };
        for (health, usable) in [
            (Some(Health::Up), true),
            (Some(Health::Down), false),
            (Some(Health::Unproven(Some(true))), true),
            (Some(Health::Unproven(Some(false))), false),
            (Some(Health::Unproven(None)), false),
            (None, false),
        ] {
            let observed = Observed::new(&[unchecked], Some(&roles), None, &|_, _| health);
            assert_eq!(observed.any_usable(), usable, "{health:?}");
        }
    }

    #[test]
    fn backups_and_empty_slots_never_count() {
        let roles = Roles {
            algorithm: "roundrobin".to_owned(),
            servers: [(ServerName::new("a").unwrap(), Role { backup: true, tracked: None })].into(),
            ..Roles::default()
        };
        assert!(!Observed::new(&[row("a")], Some(&roles), None, &|_, _| None).any_usable());
        assert!(!observe(ServerRow { admin_state: NO_ADDRESS, ..row("a") }, None).any_usable());
    }
}
