//! Builds the rows of the server-state file, which a new HAProxy process loads.
//!
//! The file has one row for each server that an accepted document names, in backends that this HAProxy has. The row
//! contains the accepted weight. If weightd must not set that weight now, the row contains the weight that HAProxy has,
//! so that a reload sets nothing that weightd would not set. The causes are a pause, a weight that HAProxy rejected,
//! and a guard of the plan.

use weightd_core::{
    backend::{Backend, KeyState, Matched},
    model::BackendName,
};

use super::Session;
use crate::haproxy::state_file::{Row, render};

impl Session {
    /// Returns the content of the file; `None` if it is unknown. It is unknown until all backends were read in this
    /// process. It is also unknown if no backend is managed although none was released, because then the state of
    /// weightd was probably lost.
    pub fn server_state(&self) -> Option<String> {
        let known = self.enforcing && self.processes.current.is_some() && self.queue.is_settled();
        let intended = self.backends.values().any(|b| b.managed() || matches!(b.key, KeyState::Released));
        (known && intended).then(|| render(self.backends.iter().flat_map(|(name, backend)| self.rows(name, backend))))
    }

    fn rows<'a>(&self, name: &'a BackendName, backend: &'a Backend) -> impl Iterator<Item = Row<'a>> {
        let accepted = backend.accepted.as_deref().filter(|_| backend.matched != Matched::No);
        let enforced = backend.withheld.is_none() && backend.set_error.is_none() && self.pauses.of(name).is_none();
        let servers = &backend.observed.servers;
        accepted.into_iter().flat_map(move |accepted| {
            servers.iter().filter(|server| !server.slot).filter_map(move |server| {
                let accepted = *accepted.weights.get(&server.name)?;
                Some(Row {
                    // Unknown before the first reading in a process; HAProxy then uses the name.
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
