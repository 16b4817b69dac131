//! Reads the backends of a HAProxy with weightd's own session. The client is read-only.

use std::collections::{BTreeMap, BTreeSet};

use weightd_core::{backend::Matched, model::BackendName};

use super::decide::HaproxyBackend;
use crate::{
    base::clock::Clock,
    haproxy::{Address, ExchangeError, Query, ReadLine, Reader, reply},
    weightctl::{Exit, failure::Failure},
    weightd::survey,
};

/// Reads the backends of the HAProxy at `address`. `wanted` are the names to read in full; empty means all. For every
/// other backend, the result has the name only.
pub(super) async fn read(
    address: &Address,
    wanted: &[BackendName],
) -> Result<BTreeMap<BackendName, HaproxyBackend>, Failure> {
    let (reader, clock) = (Reader::new(address.clone()), Clock::start());
    let names = names(&reader).await.map_err(failed)?;
    let mut session = survey::session(&clock);
    session.also_read(names.iter().filter(|name| wanted.is_empty() || wanted.contains(name)).cloned());
    survey::read(&mut session, &reader, &clock).await;
    if let Some(down) = &session.down {
        return Err(Failure::new(Exit::Failure, down.detail.clone()).hint(down.remedy));
    }
    // A backend that was deleted after the read of its name is omitted.
    let others = names.iter().filter(|name| !session.backends.contains_key(*name)).cloned();
    let mut backends: BTreeMap<_, _> = others.map(|name| (name, HaproxyBackend::default())).collect();
    for (name, backend) in session.backends {
        if backend.matched != Matched::No {
            let (observed, roles, unreadable) = (backend.observed, backend.roles, backend.unreadable);
            backends.insert(name, HaproxyBackend { observed, roles, unreadable });
        }
    }
    Ok(backends)
}

/// The names of all backends.
async fn names(reader: &Reader) -> Result<BTreeSet<BackendName>, ExchangeError> {
    let answer = reader.ask(&ReadLine::of([Query::ShowBackend])).await?;
    let frame = answer.frames().next().unwrap_or_default();
    let names = reply::backends(frame).map_err(|source| reader.bad_reply(source))?;
    Ok(names.into_iter().collect())
}

fn failed(error: ExchangeError) -> Failure {
    let hint = match &error {
        ExchangeError::NoSocket(_) | ExchangeError::NotASocket(_) | ExchangeError::Refused(_) => {
            "check that HAProxy runs, and that this is the path of `stats socket` in haproxy.cfg".to_owned()
        }
        ExchangeError::Permission(Address::Unix(path)) => {
            format!("run the command with sudo: this user may not open {}", path.display())
        }
        other => other.remedy().to_owned(),
    };
    Failure::caused(Exit::Failure, error).hint(hint)
}
