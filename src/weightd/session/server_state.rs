//! What a new HAProxy process starts with: the rows of its server-state file.
//!
//! There is a row for each server that an accepted document names, in a backend that this HAProxy has. Its weight is the
//! accepted one, unless something forbids setting it now: a pause, a weight that HAProxy rejected, a guard of the plan.
//! Then it is the weight that HAProxy has, so that a reload brings nothing that weightd would not have set.

use weightd_core::{
    backend::{Backend, KeyState, Matched},
    model::BackendName,
};

use super::Session;
use crate::haproxy::state_file::{Row, render};

impl Session {
    /// The file, if its content is known. It is not known before everything was read in this process, nor where nothing is
    /// managed although nothing was released: that is what a lost memory looks like.
    pub fn server_state(&self) -> Option<String> {
        let known = self.enforcing && self.processes.current.is_some() && self.queue.is_settled();
        let meant = self.backends.values().any(|b| b.managed() || matches!(b.key, KeyState::Released));
        (known && meant).then(|| render(self.backends.iter().flat_map(|(name, backend)| self.rows(name, backend))))
    }

    fn rows<'a>(&self, name: &'a BackendName, backend: &'a Backend) -> impl Iterator<Item = Row<'a>> {
        let accepted = backend.accepted.as_deref().filter(|_| backend.matched != Matched::No);
        let enforced = backend.withheld.is_none() && backend.set_error.is_none() && self.pauses.of(name).is_none();
        let servers = &backend.observed.servers;
        accepted.into_iter().flat_map(move |accepted| {
            servers.iter().filter(|server| !server.slot).filter_map(move |server| {
                let accepted = *accepted.weights.get(&server.name)?;
                Some(Row {
                    // In a process that was not read yet it is unknown, and HAProxy goes by the name.
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
