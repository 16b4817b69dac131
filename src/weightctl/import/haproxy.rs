//! What a HAProxy has now. Reads and nothing else.

use std::collections::BTreeMap;

use weightd_core::{model::BackendName, observed::Observed};

use super::decide::Seen;
use crate::{
    haproxy::{
        Address, Answer, Command, ExchangeError, Line, Runtime,
        reply::{self, ServersState},
    },
    weightctl::{Exit, failure::Failure},
    weightd::{
        exchange::{self, Exchange, Expect},
        reconciler::{Look, Reads},
    },
};

/// Looks at the backends of the HAProxy at `address` that are wanted: at all if none is named. Of the others there is
/// no more than the name.
pub(super) async fn look(address: &Address, wanted: &[BackendName]) -> Result<BTreeMap<BackendName, Seen>, Failure> {
    let runtime = Runtime::new(address.clone());
    let answer = ask(&runtime, &Line::of([Command::ShowInfo, Command::ShowBackend])).await?;
    let mut frames = answer.frames();
    let read = |bad| failed(runtime.bad(bad));
    let pid = process(frames.next().unwrap_or_default()).map_err(read)?;
    let names = reply::backends(frames.next().unwrap_or_default()).map_err(read)?;
    let tracked = names.iter().filter(|name| wanted.is_empty() || wanted.contains(name)).cloned().collect();
    let seen = names.into_iter().map(|name| (name, Seen::default())).collect();
    let mut looking = Looking { runtime: &runtime, pid, seen };

    // A backend's servers come with its number, by that number it is asked for its roles, and those tell how its servers
    // are to be read.
    looking.read(Reads { tracked, looks: Vec::new() }).await?;
    let look = |(name, seen): (&BackendName, &Seen)| Some(Look { backend: name.clone(), roles: Some(seen.id?) });
    let looks: Vec<_> = looking.seen.iter().filter_map(look).collect();
    let tracked = looks.iter().map(|look| look.backend.clone()).collect();
    looking.read(Reads { tracked: Vec::new(), looks }).await?;
    looking.read(Reads { tracked, looks: Vec::new() }).await?;
    Ok(looking.seen)
}

/// What was seen of one process so far.
struct Looking<'r> {
    runtime: &'r Runtime,
    pid: Option<u32>,
    seen: BTreeMap<BackendName, Seen>,
}

impl Looking<'_> {
    async fn read(&mut self, reads: Reads) -> Result<(), Failure> {
        for Exchange { line, expect } in exchange::reads(&reads) {
            let answer = ask(self.runtime, &line).await?;
            for (frame, expect) in answer.frames().zip(&expect) {
                self.take(frame, expect)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: &str, expect: &Expect) -> Result<(), Failure> {
        let bad = |bad| failed(self.runtime.bad(bad));
        match expect {
            // What two processes say does not belong together, and an old one says what no longer counts.
            Expect::Info if process(frame).map_err(bad)? != self.pid || self.pid.is_none() => {
                return Err(Failure::new(Exit::Failure, "HAProxy is being reloaded")
                    .hint("run the command again once that is done"));
            }
            Expect::Roles(backend) => {
                let roles = reply::roles(frame).map_err(bad)?;
                self.seen.entry(backend.clone()).or_default().roles = roles;
            }
            Expect::Servers(backend) => match reply::servers_state(frame).map_err(bad)? {
                ServersState::NoBackend => drop(self.seen.remove(backend)),
                ServersState::Servers(rows) => {
                    let seen = self.seen.entry(backend.clone()).or_default();
                    seen.id = rows.first().map(|row| row.backend_id);
                    seen.observed = Observed::new(&rows, seen.roles.as_ref(), None, &|_, _| None);
                }
            },
            // Nothing is set here.
            Expect::Info | Expect::Set(_) | Expect::ReadBack(_) => {}
        }
        Ok(())
    }
}

/// The process that answers; none if it is one that is about to end.
fn process(frame: &str) -> Result<Option<u32>, weightd_core::observed::BadReply> {
    let info = reply::info(frame)?;
    Ok(Some(info.pid).filter(|_| !info.stopping))
}

async fn ask(runtime: &Runtime, line: &Line) -> Result<Answer, Failure> {
    runtime.ask(line).await.map_err(failed)
}

fn failed(error: ExchangeError) -> Failure {
    let hint = match &error {
        ExchangeError::NoSocket(_) | ExchangeError::NotASocket(_) | ExchangeError::Refused(_) => {
            "see whether HAProxy runs, and which `stats socket` haproxy.cfg has".to_owned()
        }
        ExchangeError::Permission(Address::Unix(path)) => {
            format!("use sudo, or join the group that `stat -c %G {}` names, and log in again", path.display())
        }
        other => other.remedy().to_owned(),
    };
    Failure::caused(Exit::Failure, error).hint(hint)
}
