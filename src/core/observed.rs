//! The observed state: the servers of one backend as HAProxy reports them.
//!
//! Owns the meaning of the rows of `show servers state` and `show stat`: the true weight, the usable servers, other
//! owners of weights. Must not do I/O and must not decide what to change.
//!
//! The true weight is `srv_uweight` of `show servers state`, the weight that was set last. `show stat` reports the
//! effective weight, which differs during slowstart and, in some versions, in maintenance.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{BackendName, ServerName, Weight};

/// The used columns of one row of `show servers state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRow<'a> {
    /// `be_id`: identifies a backend, also if a frontend has the same name.
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
    /// `srv_uweight`: the weight that was set last.
    pub weight: Weight,
    /// `srv_iweight`: the weight in the configuration, or in `add server`.
    pub initial: Weight,
    /// `srv_time_since_last_change`, in seconds: the time since the last change of the server's state, not of its weight. It
    /// starts at 0 for a server that is added at runtime.
    pub last_change: u64,
    /// `srv_check_status`: a value up to 2 means that no check has completed in this process.
    pub check_status: u8,
    /// `srv_check_state`: bit [`CHECK_ENABLED`] means that health checks are enabled.
    pub check_state: u16,
    /// `srv_agent_state`: the same bit means that agent checks are enabled. An agent may set the weight.
    pub agent_state: u16,
    /// Whether `srvrecord` names a DNS SRV record. HAProxy applies the weights of the record.
    pub srv_record: bool,
    /// `srv_port`. A value above 65535 is a negative offset: the port is relative to the port of the client connection.
    pub port: u32,
}

/// The bits of a server in maintenance or drain (HAProxy's `SRV_ADMF_MAINT` and `SRV_ADMF_DRAIN`): maintenance that was
/// set (0x01), inherited (0x02) or caused by a missing address (0x20); drain that was set (0x08) or inherited (0x10).
/// Two bits are excluded, because they do not stop a server: 0x04 records `disabled` in the configuration, also after
/// the server was set ready, and 0x40 records a changed name.
pub const ADMINISTERED: u32 = 0x3b;
/// Drain that was set (0x08) or inherited (0x10).
const DRAIN: u32 = 0x18;
/// Maintenance because a name does not resolve: an empty slot of a `server-template`.
const NO_ADDRESS: u32 = 0x20;
/// `CHK_ST_ENABLED`.
pub const CHECK_ENABLED: u16 = 0x04;
/// `HCHK_STATUS_START`: greater values are results of completed checks.
const CHECK_STARTED: u8 = 2;
/// `SRV_ST_STARTING`: in slowstart.
const STARTING: u8 = 1;

/// The data of a backend that only `show stat` reports. Read once per process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles {
    /// `algo` of the backend's row; empty if HAProxy does not report it.
    pub algorithm: String,
    /// Whether a cookie pins users to servers: `cookie` of the backend's row is not empty.
    pub cookie: bool,
    /// Whether `show table` lists a stick table for the backend. The table may pin users, or only count them.
    pub stick_table: bool,
    /// Whether the backend is disabled. HAProxy reports no other data then.
    pub disabled: bool,
    /// The servers with a special role.
    pub servers: BTreeMap<ServerName, Role>,
}

/// The special role of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// `bck`: a backup server, which gets traffic only if all active servers are down.
    pub backup: bool,
    /// `tracked`: the server that provides the health of this server.
    pub tracked: Option<(BackendName, ServerName)>,
}

impl Roles {
    /// Whether the algorithm is known to accept any weight at runtime. Hash algorithms (`source`, `uri`, `hdr`, …) are
    /// dynamic only with `hash-type consistent`, and HAProxy does not report that. `static-rr` is always static.
    /// HAProxy reports
    /// `random` as `unknown`.
    pub fn known_dynamic(&self) -> bool {
        matches!(self.algorithm.as_str(), "roundrobin" | "leastconn" | "first" | "random")
    }

    /// Whether the algorithm is known to be static. `false` does not mean that it accepts weights.
    pub fn known_static(&self) -> bool {
        self.algorithm == "static-rr"
    }
}

/// The health of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The server runs: a check of this process succeeded, or the server has no checks.
    Up,
    /// The server does not run.
    Down,
    /// No check has completed in this process. The value is the last health in the previous process, if known.
    Unproven(Option<bool>),
}

/// A mechanism other than weightd that sets weights, if HAProxy reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// An agent-check. Its answer may contain a weight, which HAProxy applies at each interval.
    AgentCheck,
    /// A DNS SRV record. HAProxy applies its weight at each resolution.
    SrvRecord,
}

/// A server as HAProxy reports it.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact, and all combinations occur")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its id in the backend.
    pub id: u32,
    /// Its port; none if the port is not fixed.
    pub port: Option<u16>,
    /// The weight that was set last: the true weight.
    pub weight: Weight,
    /// The weight in the configuration.
    pub initial: Weight,
    /// Its health.
    pub health: Health,
    /// Whether it is in maintenance or drain.
    pub administered: bool,
    /// Whether it is in drain: only users that are pinned to it reach it.
    pub drain: bool,
    /// Whether it is an empty slot, without an address.
    pub slot: bool,
    /// Whether it is a backup server, which gets traffic only if all active servers are down.
    pub backup: bool,
    /// Whether it is in slowstart, with less traffic than its weight gives.
    pub starting: bool,
    /// The other owner of its weight.
    pub owner: Option<Owner>,
}

impl Server {
    /// Whether the server could serve new traffic with a weight above 0. `above_zero` is true if its weight is
    /// already above 0. A server with unknown health counts as usable only then.
    pub fn usable(&self, above_zero: bool) -> bool {
        !self.backup && self.running(above_zero)
    }

    /// Whether the server, active or backup, runs and is not in maintenance or drain.
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
    /// The servers.
    pub servers: Vec<Server>,
    /// Whether the algorithm is known to accept any weight at runtime.
    pub known_dynamic: bool,
}

/// Whether a server is new since the last reading of this process.
///
/// A server that was deleted and added again between two readings has its old name and usually its old id. It is
/// detected by two facts. Its state changed since the last reading. And its configured weight changed, or it has its
/// configured weight although another weight was set.
fn is_new(row: &ServerRow<'_>, before: Option<&Server>, elapsed: Duration) -> bool {
    let Some(before) = before else { return true };
    let changed_since = Duration::from_secs(row.last_change) <= elapsed + Duration::from_secs(1);
    before.id != row.server_id
        || changed_since && (before.initial != row.initial || row.weight == row.initial && before.weight != row.weight)
}

impl Observed {
    /// Combines the rows of HAProxy with the previous observation.
    ///
    /// `before` is the last observation of this process or of the previous one. It provides the health of servers without a
    /// completed check in this process. `tracked` returns the health of a tracked server.
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
                let before = before.and_then(|before| before.previous(at, row));
                let name = match before {
                    Some(server) => server.name.clone(),
                    // An invalid name cannot come from HAProxy, and cannot be used in a command.
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

    /// Returns the names of the servers in `rows` that are new since this observation, which is `elapsed` old. If a
    /// server is not new and has another weight, another program or a person changed it.
    pub fn added<'r>(&'r self, rows: &'r [ServerRow<'r>], elapsed: Duration) -> impl Iterator<Item = ServerName> + 'r {
        let new = move |(at, row): &(usize, &ServerRow<'_>)| is_new(row, self.previous(*at, row), elapsed);
        rows.iter().enumerate().filter(new).filter_map(|(_, row)| ServerName::new(row.server).ok())
    }

    /// Returns the server with the name of `row`. Rows keep their order, so it is nearly always at the same position.
    fn previous(&self, at: usize, row: &ServerRow<'_>) -> Option<&Server> {
        match self.servers.get(at) {
            Some(server) if server.name.as_str() == row.server => Some(server),
            _ => self.servers.iter().find(|s| s.name.as_str() == row.server),
        }
    }

    /// Returns the server with this name.
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.iter().find(|s| s.name == *name)
    }

    /// Whether any active server could serve traffic with a weight above 0.
    pub fn any_usable(&self) -> bool {
        self.servers.iter().any(|s| s.usable(!s.weight.is_zero()))
    }

    /// Whether backup servers serve the traffic, because no active server does.
    pub fn any_backup_serving(&self) -> bool {
        self.serving().any(|server| server.backup)
    }

    /// Whether an active server is usable with a weight above 0.
    pub fn any_serving(&self) -> bool {
        self.servers.iter().any(|s| !s.weight.is_zero() && s.usable(true))
    }

    /// Returns the servers that get new traffic: the usable active servers with a weight above 0, or the backup servers
    /// if there is none. HAProxy uses only the first backup server, except with `option allbackups`, which it does not
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

/// Whether a backup server is known to run. Unknown health does not count.
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
        // HAProxy reports a tracked server that went down at once, but not one that was never checked.
        return match tracked(backend, server) {
            Some(Health::Up) => Health::Up,
            Some(Health::Down) => Health::Down,
            Some(Health::Unproven(Some(known))) => Health::Unproven(Some(known)),
            Some(Health::Unproven(None)) | None => unproven(),
        };
    }
    if row.check_state & CHECK_ENABLED != 0 && row.check_status <= CHECK_STARTED { unproven() } else { Health::Up }
}

/// HAProxy did not set a weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The backend no longer exists.
    #[error("HAProxy has no such backend")]
    NoBackend,
    /// The server no longer exists.
    #[error("HAProxy has no such server")]
    NoServer,
    /// The backend is disabled, or an old process answers after a reload.
    #[error("the backend is disabled")]
    Disabled,
    /// The algorithm accepts only 0 and the configured weight at runtime.
    #[error("the backend's balance algorithm is static: it accepts only 0 and the configured weight at runtime")]
    StaticAlgorithm,
    /// The level of the socket is below admin.
    #[error("the level of the socket does not permit to set weights")]
    Denied,
    /// An unknown error text.
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
    fn a_server_with_unknown_health_is_usable_only_if_its_weight_is_above_zero() {
        let fresh = ServerRow { check_status: 1, ..row("a") };
        assert!(observe(fresh, None).any_usable());
        assert!(!observe(ServerRow { weight: Weight::ZERO, ..fresh }, None).any_usable());
        let unchecked = ServerRow { check_state: 0, weight: Weight::ZERO, ..fresh };
        assert!(observe(unchecked, None).any_usable(), "a server without checks runs");
    }

    #[test]
    fn the_health_of_the_previous_process_is_used_until_the_first_check() {
        let fresh = ServerRow { check_status: 1, ..row("a") };
        let down = observe(ServerRow { op_state: 0, ..row("a") }, None);
        let after = observe(fresh, Some(&down));
        assert!(!after.any_usable());
        assert!(!observe(fresh, Some(&after)).any_usable(), "also after a second reload");
        assert!(observe(row("a"), Some(&after)).any_usable(), "until a check has completed");
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
    fn backup_servers_and_empty_slots_are_never_usable() {
        let roles = Roles {
            algorithm: "roundrobin".to_owned(),
            servers: [(ServerName::new("a").unwrap(), Role { backup: true, tracked: None })].into(),
            ..Roles::default()
        };
        assert!(!Observed::new(&[row("a")], Some(&roles), None, &|_, _| None).any_usable());
        assert!(!observe(ServerRow { admin_state: NO_ADDRESS, ..row("a") }, None).any_usable());
    }
}
