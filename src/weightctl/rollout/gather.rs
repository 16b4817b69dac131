//! What the nodes report of a backend: see [`crate::documents::gather`]. Says why less is known.

use weightd_core::model::BackendName;

pub(super) use crate::documents::gather::Gathered;
use crate::{
    documents::Documents,
    weightctl::{observing, output},
};

/// Asks the counting nodes. It never fails: without a right or an answer it says so, and less is known.
pub(super) async fn gather(documents: &Documents, backend: &BackendName, document: u64, measure: bool) -> Gathered {
    if measure && output::is_terminal() {
        output::message(&format!("measuring the traffic of {backend}: 10 to 15 s"));
    }
    let mut gathered = documents.gather(backend, document, measure, None).await;
    if let Some(error) = gathered.problem.take() {
        observing::note(error);
    }
    gathered
}
