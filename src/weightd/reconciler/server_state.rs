//! What a new HAProxy process is to begin with: the rows of its server-state file. Pure.
//!
//! A row is for a server that an accepted document names, in a backend that this HAProxy has. Its weight is the accepted
//! one, unless something speaks against setting that now: a pause, a refusal, a guard of the plan. Then it is the one
//! that HAProxy has, so that a reload brings nothing that weightd would not have set.

use weightd_core::{
    backend::{Backend, Key, Matched},
    model::BackendName,
};

use super::Reconciler;
use crate::haproxy::state_file::{Row, render};

impl Reconciler {
    /// The file, if it is known: not before everything was looked at in this process, and not where nothing is managed
    /// although nobody released anything, which is how a lost memory looks.
    pub fn server_state(&self) -> Option<String> {
        let known = self.enforcing && self.process.is_some() && self.settled();
        let meant = self.backends.values().any(|b| b.managed() || matches!(b.key, Key::Released));
        (known && meant).then(|| render(self.backends.iter().flat_map(|(name, backend)| self.rows(name, backend))))
    }

    fn rows<'a>(&self, name: &'a BackendName, backend: &'a Backend) -> impl Iterator<Item = Row<'a>> {
        let accepted = backend.accepted.as_deref().filter(|_| backend.matched != Matched::No);
        let enforced = backend.withheld.is_none() && backend.refusal.is_none() && self.pauses.of(name).is_none();
        let servers = &backend.observed.servers;
        accepted.into_iter().flat_map(move |accepted| {
            servers.iter().filter(|server| !server.slot).filter_map(move |server| {
                let accepted = *accepted.weights.get(&server.name)?;
                Some(Row {
                    // Of a process that was not looked at yet it is not known, and HAProxy goes by the name.
                    backend_id: backend.id.unwrap_or_default(),
                    backend: name,
                    server_id: server.id,
                    server: &server.name,
                    weight: if enforced { accepted } else { server.weight },
                    initial: server.initial,
                    port: server.port?,
                })
            })
        })
    }
}

#[cfg(test)]
mod tests;
