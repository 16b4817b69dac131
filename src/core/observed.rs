//! What is: the servers of one backend as HAProxy reports them.
//!
//! Owns what a row of `show servers state` and of `show stat` means: which weight is the truth, and which
//! server counts as usable. Must never do I/O and never decide what should change.
//!
//! The truth is `srv_uweight` of `show servers state`, the weight somebody set. `show stat` reports the
//! effective weight, which differs during slowstart and, in some versions, in maintenance.

use std::collections::BTreeMap;

use crate::model::{BackendName, ServerName, Weight};

/// One row of `show servers state`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRow<'a> {
    /// `be_id`: what names a backend and no frontend of the same name.
    pub backend_id: u32,
    /// `be_name`.
    pub backend: &'a str,
    /// `srv_id`.
    pub server_id: u32,
    /// `srv_name`.
    pub server: &'a str,
    /// `srv_op_state`: 0 stopped, 1 starting (slowstart), 2 running, 3 stopping.
    pub op_state: u8,
    /// `srv_admin_state`: bits, see [`ADMINISTERED`].
    pub admin_state: u32,
    /// `srv_uweight`: the weight somebody set.
    pub weight: Weight,
    /// `srv_iweight`: the weight of the configuration.
    pub initial: Weight,
    /// `srv_check_status`: up to 2 no check has ended in this process.
    pub check_status: u8,
    /// `srv_check_state`: bit [`CHECK_ENABLED`] says that the server is checked.
    pub check_state: u16,
    /// `srv_agent_state`: the same bit says that an agent is asked, which may set the weight.
    pub agent_state: u16,
    /// `srv_port`. Beyond 65535 it is an offset below zero, of a server whose port is that of its client.
    pub port: u32,
}

/// The bits that take a server out: maintenance that was set (0x01), inherited (0x02) or for want of an address (0x20),
/// drain that was set (0x08) or inherited (0x10). Not among them: 0x04, which only remembers that the configuration
/// says `disabled`, also after the server was set ready, and 0x40, which remembers that its name was changed
/// (HAProxy's `SRV_ADMF_MAINT` and `SRV_ADMF_DRAIN`).
pub const ADMINISTERED: u32 = 0x3b;
/// Maintenance because a name has no address: an empty slot of a `server-template`.
const NO_ADDRESS: u32 = 0x20;
/// `CHK_ST_ENABLED`.
pub const CHECK_ENABLED: u16 = 0x04;
/// `HCHK_STATUS_START`: results are above it.
const CHECK_STARTED: u8 = 2;

/// What `show stat` says about a backend and that `show servers state` does not: read once per process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles {
    /// `algo` of the backend's row; empty where HAProxy does not say.
    pub algorithm: String,
    /// Whether users are pinned by a cookie: `cookie` of the backend's row has its name.
    pub cookie: bool,
    /// Whether the backend has a stick table, as `show table` says. It may pin users, or only count them.
    pub stick_table: bool,
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
    /// Whether the algorithm is known to take any weight while running. `source`, `uri`, `hdr` and the like
    /// are dynamic only with `hash-type consistent`, which HAProxy does not report; `static-rr` never is;
    /// `random` is reported as `unknown`.
    pub fn known_dynamic(&self) -> bool {
        matches!(self.algorithm.as_str(), "roundrobin" | "leastconn" | "first" | "random")
    }

    /// Whether the algorithm is known to take no weight while running. That it is not does not mean that it takes one.
    pub fn known_static(&self) -> bool {
        self.algorithm == "static-rr"
    }
}

/// What is known of a server's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Runs, by a check of this process or because nothing checks it.
    Up,
    /// Does not run.
    Down,
    /// Is checked, but no check has ended in this process; what the process before it last said, if anything.
    Unproven(Option<bool>),
}

/// A server as HAProxy reports it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all of their combinations exist")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Its number in the backend.
    pub id: u32,
    /// Its port; none where it has no fixed one.
    pub port: Option<u16>,
    /// The weight somebody set: the truth.
    pub weight: Weight,
    /// The weight of the configuration.
    pub initial: Weight,
    /// What is known of its health.
    pub health: Health,
    /// In maintenance or drain.
    pub administered: bool,
    /// A slot without an address: no server yet.
    pub slot: bool,
    /// Takes traffic only when all active servers are down.
    pub backup: bool,
    /// Whether an agent is asked, which may set the weight.
    pub agent: bool,
}

impl Server {
    /// Whether it could take new traffic if its weight were above 0. `above_zero` says whether it already
    /// is: that decides for a server whose health nobody knows.
    pub fn usable(&self, above_zero: bool) -> bool {
        !self.backup
            && !self.administered
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
    /// Whether the algorithm is known to take any weight while running.
    pub known_dynamic: bool,
}

impl Observed {
    /// Puts together what HAProxy says now and what was known before.
    ///
    /// `before` is the last observation, of this process or the one before it: its health stands in where
    /// this process has not checked yet. `tracked` tells the health of a server that others track.
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
                // Rows keep their order, so the server before is nearly always at the same place.
                let before = before.and_then(|b| match b.servers.get(at) {
                    Some(server) if server.name.as_str() == row.server => Some(server),
                    _ => b.servers.iter().find(|s| s.name.as_str() == row.server),
                });
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
                    slot: row.admin_state & NO_ADDRESS != 0,
                    backup: role.is_some_and(|r| r.backup),
                    agent: row.agent_state & CHECK_ENABLED != 0,
                    name,
                })
            })
            .collect();
        Self { servers, known_dynamic: roles.is_some_and(Roles::known_dynamic) }
    }

    /// The server of that name.
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.iter().find(|s| s.name == *name)
    }

    /// Whether any server could take traffic, were its weight above 0.
    pub fn any_usable(&self) -> bool {
        self.servers.iter().any(|s| s.usable(!s.weight.is_zero()))
    }

    /// Whether a backup would take the traffic that no active server takes.
    pub fn any_backup_serving(&self) -> bool {
        self.servers.iter().any(|s| s.backup && !s.administered && !s.weight.is_zero() && s.health == Health::Up)
    }

    /// Whether any server is usable and above 0: whether new traffic has somewhere to go.
    pub fn any_serving(&self) -> bool {
        self.servers.iter().any(|s| !s.weight.is_zero() && s.usable(true))
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
        // HAProxy hands a tracked server's fall down at once, but not that it was never checked.
        return match tracked(backend, server) {
            Some(Health::Up) => Health::Up,
            Some(Health::Down) => Health::Down,
            Some(Health::Unproven(Some(known))) => Health::Unproven(Some(known)),
            Some(Health::Unproven(None)) | None => unproven(),
        };
    }
    if row.check_state & CHECK_ENABLED != 0 && row.check_status <= CHECK_STARTED { unproven() } else { Health::Up }
}

/// An answer that is not what HAProxy gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Fewer or more frames than commands: truncated, or not the commands' answers at all.
    #[error("expected {expected} replies, found {found}")]
    Frames {
        /// One for each command.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// A line or column that should be there is not.
    #[error("`{command}` lacks `{wanted}`")]
    Lacks {
        /// The command that was answered.
        command: &'static str,
        /// What is missing.
        wanted: &'static str,
    },
    /// A value that cannot be read.
    #[error("`{command}` has an unreadable `{column}`")]
    Value {
        /// The command that was answered.
        command: &'static str,
        /// The column.
        column: &'static str,
    },
    /// `show servers state` in a format other than 1.
    #[error("`show servers state` has a format other than 1")]
    Format,
}

/// Why HAProxy did not set a weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The backend vanished meanwhile.
    #[error("HAProxy has no such backend")]
    NoBackend,
    /// The server vanished meanwhile.
    #[error("HAProxy has no such server")]
    NoServer,
    /// The backend is disabled, or the process that answers is an old one after a reload.
    #[error("the backend is disabled")]
    Disabled,
    /// The algorithm takes only 0 and the configured weight while running.
    #[error("the backend's balance algorithm is static: it takes only 0 and the configured weight while running")]
    StaticAlgorithm,
    /// The socket is not of level admin.
    #[error("the socket's level does not permit it")]
    Denied,
    /// A text that is not known.
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
