//! Which servers take traffic on this host's HAProxy, so that shares count those.
//!
//! This host's weightd knows it. Where none runs, shares are those of the weights, which is right if every server that the
//! document names is up and none is a backup server.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::timeout;
use weightd_core::{
    caveats,
    model::{BackendName, ServerName},
    wire::status::{BackendState, BackendStatus},
};

use super::{context::Context, output, status};

/// How long weightd may take: it answers within milliseconds.
const PATIENCE: Duration = Duration::from_millis(800);

/// What this host's weightd says about a backend.
pub(super) struct Serving {
    /// The servers that take traffic when their weight is above 0.
    pub(super) active: BTreeSet<ServerName>,
    /// Why shares are not exactly what the weights say.
    notes: Vec<String>,
}

/// Who serves a backend on this host; none if no weightd of this host follows it and has read it.
pub(super) async fn of(context: &Context<'_>, backend: &BackendName) -> Option<Serving> {
    let api = status::address(context)?;
    // Whatever keeps weightd from answering, the command goes on without it.
    let status = timeout(PATIENCE, status::read(&api)).await.ok()?.ok()?;
    let root = context.root().to_string();
    let backends = status.instances.iter().filter(|instance| instance.root == root).flat_map(|i| &i.backends);
    let found = backends.filter(|status| status.backend.as_ref() == Some(backend)).find(|status| was_read(status))?;
    let active = found.servers.iter().filter(|server| server.usable && !server.backup);
    let caveats = found.reasons.iter().filter(|reason| caveats::WORDS.contains(&&*reason.reason));
    Some(Serving {
        active: active.filter_map(|server| server.server.clone()).collect(),
        notes: caveats.map(|reason| format!("{backend} on this host: {}", reason.detail)).collect(),
    })
}

fn was_read(status: &BackendStatus) -> bool {
    status.state != BackendState::Unknown && status.servers.iter().any(|server| server.observed.is_some())
}

impl Serving {
    /// Says why shares are not exactly what the weights say.
    pub(super) fn notes(&self) {
        self.notes.iter().for_each(|note| output::note(note));
    }
}
