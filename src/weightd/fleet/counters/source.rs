//! One HAProxy: reads the observed backends, and the workers that leave after a reload.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::debug;
use weightd_core::{
    fleet::{
        View,
        counters::Instance as Reported,
        counting::{BackendCount, ProcessId, Rest, Wall},
    },
    model::{BackendName, Timestamp},
    observed::Observed,
};

use super::reading::reading;
use crate::{
    base::{chain::Chain, clock},
    haproxy::{
        Address, BadReply, ExchangeError, Info, Query, ReadLine, Reader,
        reply::{self, ServersState},
        stat::{Stat, stat},
    },
    weightd::instance::Instance,
};

/// How often in a row the master may fail to answer about a worker that leaves. It does not answer while it loads the
/// configuration.
const MASTER_FAILURES: u32 = 25;

/// The wall-clock time.
pub(super) fn wall() -> Wall {
    u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX)
}

/// One HAProxy.
#[derive(Debug)]
pub struct Source {
    instance: Arc<Instance>,
    reader: Reader,
    /// The master's socket, if it is configured.
    master: Option<Reader>,
    process: Option<Process>,
    backends: BTreeMap<BackendName, Backend>,
}

/// The process that answered last.
#[derive(Debug)]
struct Process {
    id: ProcessId,
    uptime: u64,
    /// The backends with a stick table.
    stick_tables: BTreeSet<BackendName>,
}

/// An observed backend.
#[derive(Debug, Default)]
struct Backend {
    count: BackendCount,
    standing: Standing,
    /// Its id in the process that answered last.
    id: Option<u32>,
    observed: Option<Observed>,
    leaving: BTreeMap<u32, Leaving>,
}

/// A worker that leaves.
#[derive(Debug)]
struct Leaving {
    /// The id of the backend in it.
    id: u32,
    was_read: bool,
    failures: u32,
}

/// How an observed backend stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// It was not read yet.
    #[default]
    Unread,
    /// It was read.
    Read,
    /// HAProxy does not have it.
    Lacks,
    /// It could not be read: a word.
    Down(&'static str),
}

impl Source {
    /// The source of one HAProxy. `master` is its master's socket.
    pub fn new(instance: Arc<Instance>, master: Option<Address>) -> Self {
        let reader = Reader::new(instance.address.clone());
        Self { instance, reader, master: master.map(Reader::new), process: None, backends: BTreeMap::new() }
    }

    /// Reads these backends from now on, and forgets all others.
    pub(super) fn observe(&mut self, wanted: &[(BackendName, Vec<View>)]) {
        self.backends.retain(|name, _| wanted.iter().any(|(backend, _)| backend == name));
        for (backend, views) in wanted {
            self.backends.entry(backend.clone()).or_default().count.set_views(views);
        }
    }

    /// Whether workers that leave can be read.
    pub(super) fn has_master(&self) -> bool {
        self.master.is_some()
    }

    /// Whether HAProxy was reloaded since the last reading, as far as the session of the instance knows.
    pub(super) fn was_reloaded(&self) -> bool {
        let Some(process) = self.process.as_ref().filter(|_| self.master.is_some()) else { return false };
        self.instance.lock().processes.current.as_ref().is_some_and(|current| current.pid != process.id.pid)
    }

    /// Whether a worker that leaves is being read.
    pub(super) fn has_leaving(&self) -> bool {
        self.backends.values().any(|backend| !backend.leaving.is_empty())
    }

    /// Reads all observed backends.
    pub(super) async fn read(&mut self) {
        let names: Vec<BackendName> = self.backends.keys().cloned().collect();
        let mut down = None;
        for name in names {
            // A HAProxy that does not answer about one backend does not answer about the others.
            let standing = match down {
                Some(reason) => Standing::Down(reason),
                None => match self.read_backend(&name).await {
                    Ok(standing) => standing,
                    Err(ExchangeError::BadReply { source, .. }) => {
                        debug!(backend = %name, error = %source, "the counters cannot be read");
                        Standing::Down(if matches!(source, BadReply::Missing { .. }) {
                            "columns"
                        } else {
                            "not_haproxy"
                        })
                    }
                    Err(error) => {
                        debug!(error = %Chain(&error), "the counters cannot be read");
                        down = Some(error.reason());
                        Standing::Down(error.reason())
                    }
                },
            };
            if let Some(backend) = self.backends.get_mut(&name) {
                backend.standing = standing;
            }
        }
        self.read_leaving().await;
    }

    async fn read_backend(&mut self, name: &BackendName) -> Result<Standing, ExchangeError> {
        // The id is that of the last process: after a reload it may be that of another backend.
        let mut id = self.backends.get(name).and_then(|backend| backend.id);
        for _ in 0..2 {
            let tables = self.process.is_none();
            let known = id.map(Query::ShowStat);
            let line = ReadLine::of(
                [Query::ShowInfo, Query::ShowServersState(name), Query::ShowTable].into_iter().chain(known),
            );
            let answer = self.reader.ask(&line).await?;
            let at = wall();
            let bad = |source| self.reader.bad_reply(source);
            let mut frames = answer.frames();
            let mut frame = || frames.next().unwrap_or_default();
            let info = reply::info(frame()).map_err(bad)?;
            if info.stopping {
                // The old process answered once more.
                return Ok(Standing::Down("stopping"));
            }
            let rows = match reply::servers_state(frame()).map_err(bad)? {
                ServersState::Servers(rows) => rows,
                ServersState::NoBackend => return Ok(Standing::Lacks),
            };
            let stick_tables = reply::stick_tables(frame());
            let process = self.process(&info, at);
            if tables || self.process.as_ref().is_some_and(|known| known.id != process.id) {
                self.process = Some(Process { id: process.id, uptime: info.uptime, stick_tables });
            } else if let Some(known) = &mut self.process {
                known.uptime = info.uptime;
            }
            let found = rows.first().map(|row| row.backend_id);
            if found.is_none() {
                return Ok(Standing::Down("no_servers"));
            }
            if id != found {
                id = found;
                continue;
            }
            let text = frame();
            let roles = reply::roles(text).map_err(|source| self.reader.bad_reply(source))?;
            let counters = stat(text).map_err(|source| self.reader.bad_reply(source))?;
            let Some(counters) = counters.filter(|counters| counters.backend == name.as_str()) else {
                return Ok(Standing::Down("disabled"));
            };
            let sticky = self.process.as_ref().is_some_and(|process| process.stick_tables.contains(name));
            let leaves = self.master.is_some();
            let Some(backend) = self.backends.get_mut(name) else { return Ok(Standing::Unread) };
            let observed = Observed::new(&rows, roles.as_ref(), backend.observed.as_ref(), &|_, _| None);
            let taken = reading(process.id, &info, &observed, counters, sticky);
            backend.observed = Some(observed);
            let before = backend.id;
            backend.count.take(taken, at, leaves);
            backend.id = id;
            for pid in backend.count.leaving() {
                let of = || Leaving { id: before.or(id).unwrap_or_default(), was_read: false, failures: 0 };
                backend.leaving.entry(pid).or_insert_with(of);
            }
            return Ok(Standing::Read);
        }
        // It was reloaded between the two exchanges.
        Ok(Standing::Down("reloading"))
    }

    /// The identity of the process that answered.
    fn process(&self, info: &Info, at: Wall) -> Process {
        if let Some(known) = &self.process
            && known.id.pid == info.pid
            && info.uptime >= known.uptime
        {
            return Process { id: known.id, uptime: info.uptime, stick_tables: BTreeSet::new() };
        }
        let since = Timestamp::from_seconds((at / 1000).saturating_sub(info.uptime));
        Process { id: ProcessId { pid: info.pid, since }, uptime: info.uptime, stick_tables: BTreeSet::new() }
    }

    /// Reads the workers that leave.
    pub(super) async fn read_leaving(&mut self) {
        let Some(master) = &self.master else { return };
        for (name, backend) in &mut self.backends {
            let pids: Vec<u32> = backend.leaving.keys().copied().collect();
            for pid in pids {
                let Some(leaving) = backend.leaving.get_mut(&pid) else { continue };
                let line = ReadLine::of([Query::LeavingStat { pid, id: leaving.id }]);
                let rest = match master.ask(&line).await {
                    Ok(answer) => stat(answer.frames().next().unwrap_or_default()),
                    // The master's errors do not end in an empty line.
                    Err(ExchangeError::BadReply { source, .. }) => Err(source),
                    Err(error) => {
                        debug!(pid, error = %Chain(&error), "the master does not answer");
                        leaving.failures += 1;
                        if leaving.failures > MASTER_FAILURES {
                            backend.leaving.remove(&pid);
                            backend.count.ended(pid, false);
                        }
                        continue;
                    }
                };
                match rest {
                    Ok(Some(rest)) if rest.backend == name.as_str() => {
                        (leaving.was_read, leaving.failures) = (true, 0);
                        let servers = rest.servers.iter().map(|server| (server.name.clone(), server.levels)).collect();
                        let Stat { connect_errors, unassigned, .. } = rest;
                        backend.count.rest(pid, &Rest { connect_errors, unassigned, servers });
                    }
                    // The master knows no such worker any more; or it is one of HAProxy 2.2, which shows no rows.
                    Ok(_) | Err(_) => {
                        let was_read = leaving.was_read;
                        debug!(pid, was_read, "a worker has left");
                        backend.leaving.remove(&pid);
                        backend.count.ended(pid, was_read);
                    }
                }
            }
        }
    }

    /// Takes whether a side of `to` failed since this was asked last.
    pub(super) fn take_failed(&mut self) -> bool {
        self.backends.values_mut().fold(false, |failed, backend| backend.count.take_failed() | failed)
    }

    /// Takes whether a block was closed since this was asked last.
    pub(super) fn take_closed(&mut self) -> bool {
        self.backends.values_mut().fold(false, |closed, backend| backend.count.take_closed() | closed)
    }

    /// What is reported on a backend; none where this HAProxy does not have it.
    pub(super) fn report(&self, name: &BackendName, at: Wall) -> Option<Reported> {
        let backend = self.backends.get(name)?;
        let down = match backend.standing {
            Standing::Lacks => return None,
            Standing::Read => None,
            Standing::Unread => Some("unread"),
            Standing::Down(reason) => Some(reason),
        };
        Some(backend.count.report(&self.instance.name, down, at))
    }
}
