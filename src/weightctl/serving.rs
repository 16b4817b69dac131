//! The servers that take traffic on this host's HAProxy. Shares count only these.
//!
//! This host's weightd reports them. Without a weightd, shares count all servers of the document. They are correct if
//! every server is up and none is a backup server.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::timeout;
use weightd_core::{
    caveats,
    model::{BackendName, ServerName},
    wire::status::{BackendState, BackendStatus},
};

use super::{context::Context, output, status};

/// Time limit for weightd, which answers within milliseconds.
const DEADLINE: Duration = Duration::from_millis(800);

/// A backend on this host's HAProxy, as reported by this host's weightd.
#[derive(Debug)]
pub(super) struct Serving {
    /// The servers that take traffic if their weight is above 0.
    pub(super) active: BTreeSet<ServerName>,
    /// Why shares differ from the weights.
    notes: Vec<String>,
}

/// The serving servers of a backend on this host; none if no weightd of this host follows the backend and has read it.
pub(super) async fn of(context: &Context<'_>, backend: &BackendName) -> Option<Serving> {
    let api = status::address(context)?;
    // An error of weightd is ignored: the command works without it.
    let status = timeout(DEADLINE, status::read(&api)).await.ok()?.ok()?;
    let root = context.root().to_string();
    let backends = status.instances.iter().filter(|instance| instance.root == root).flat_map(|i| &i.backends);
    let found = backends.filter(|status| status.backend.as_ref() == Some(backend)).find(|status| was_read(status))?;
    let active = found.servers.iter().filter(|server| server.usable && !server.backup);
    let caveats =
        found.reasons.iter().filter(|reason| caveats::WORDS.contains(&&*reason.reason) || reason.reason == "unnamed");
    Some(Serving {
        active: active.filter_map(|server| server.server.clone()).collect(),
        notes: caveats.map(|reason| format!("{backend} on this host: {}", reason.detail)).collect(),
    })
}

fn was_read(status: &BackendStatus) -> bool {
    status.state != BackendState::Unknown && status.servers.iter().any(|server| server.observed.is_some())
}

impl Serving {
    /// Prints why shares differ from the weights.
    pub(super) fn notes(&self) {
        self.notes.iter().for_each(|note| output::note(note));
    }
}
