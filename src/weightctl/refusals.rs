//! Converts an error of Consul and a rejected edit into exit code, message and hint.

use weightd_core::model::{BackendName, nearest};

use super::{Exit, change::Flags, failure::Failure, observing, reach};
use crate::{
    consul::client::ConsulError,
    documents::{Documents, DocumentsError, edit::EditError},
};

impl From<DocumentsError> for Failure {
    fn from(error: DocumentsError) -> Self {
        let context = error.to_string();
        match error {
            DocumentsError::Read { rule, source, .. } | DocumentsError::Write { rule, source, .. } => {
                failed(source, &rule).context(context)
            }
            DocumentsError::UnknownResult { hint, source, .. } => failed(source, "").context(context).hint(hint),
        }
    }
}

/// The failure of a command that has written nothing so far. Says so, where the error does not say it itself.
pub(super) fn not_written(error: DocumentsError) -> Failure {
    match error {
        DocumentsError::Read { .. } => Failure::from(error).context("nothing was written"),
        DocumentsError::Write { .. } | DocumentsError::UnknownResult { .. } => error.into(),
    }
}

/// The failure for a rejected edit.
pub(super) async fn refused(documents: &Documents, refusal: EditError) -> Failure {
    let hint = refusal.hint(documents.prefix());
    match refusal {
        EditError::NoSuchBackend(backend) => no_such(documents, &backend, &hint).await,
        other => Failure::caused(Exit::Refused, other).hint(hint),
    }
}

/// The failure for a backend that does not exist. Suggests a similar name, else gives the hint `otherwise`.
pub(super) async fn no_such(documents: &Documents, backend: &BackendName, otherwise: &str) -> Failure {
    let failure = Failure::caused(Exit::Refused, EditError::NoSuchBackend(backend.clone()));
    failure.hint(match nearest_backend(documents, backend).await {
        Some(name) => format!("did you mean `{name}`? If not: {otherwise}"),
        None => otherwise.to_owned(),
    })
}

/// The backend in Consul with the most similar name, if there is one.
pub(super) async fn nearest_backend(documents: &Documents, backend: &BackendName) -> Option<String> {
    // If the list cannot be read, there is no suggestion.
    let everything = documents.all().await.unwrap_or_default();
    let others =
        everything.backends.iter().map(|stored| stored.backend.as_str()).filter(|name| *name != backend.as_str());
    nearest(backend.as_str(), others).map(str::to_owned)
}

/// As [`refused`], before a question: for a backend without a key, also says whether a HAProxy has it.
pub(super) async fn refused_after_asking(documents: &Documents, refusal: EditError, flags: &Flags) -> Failure {
    let EditError::NoSuchBackend(backend) = &refusal else { return refused(documents, refusal).await };
    if flags.yes {
        return refused(documents, refusal).await;
    }
    let backend = backend.clone();
    let asking = async {
        let known = reach::read(documents).await?;
        observing::ask(documents, &backend, &observing::counting(&known.0), flags.by.clone()).await
    };
    let (failure, answers) = tokio::join!(refused(documents, refusal), asking);
    let what = match answers {
        Some(answers) if answers.nobody_has_it() => "no HAProxy of any node has it".to_owned(),
        Some(answers) if !answers.has.is_empty() => {
            let has = answers.has.keys().map(weightd_core::fleet::NodeName::as_str);
            format!("HAProxy has it on {}", weightd_core::reasons::list(has))
        }
        _ => return failure,
    };
    let Failure { exit, error, hint } = failure;
    Failure { exit, error: anyhow::anyhow!("{error:#}; {what}"), hint }
}

/// The failure for an error of Consul. `rule` is the ACL rule that the request needs.
pub(super) fn failed(error: ConsulError, rule: &str) -> Failure {
    let (exit, hint) = match &error {
        ConsulError::Unreachable { .. } | ConsulError::Timeout(_) => (
            Exit::Unreachable,
            "check that the Consul agent runs, and that --http-addr or CONSUL_HTTP_ADDR is its address".to_owned(),
        ),
        ConsulError::Closed(_) | ConsulError::RateLimited { .. } => (Exit::Unreachable, error.remedy().to_owned()),
        ConsulError::Unavailable(..) | ConsulError::NoLeader => (
            Exit::Unreachable,
            "check the Consul servers with `consul operator raft list-peers -stale`, then try again".to_owned(),
        ),
        ConsulError::Denied(_) => (
            Exit::Denied,
            format!("the token needs {rule}; check --token-file, CONSUL_HTTP_TOKEN_FILE and CONSUL_HTTP_TOKEN"),
        ),
        ConsulError::Tls { source, .. } => {
            (if source.is_local() { Exit::Failure } else { Exit::Unreachable }, source.remedy().to_owned())
        }
        ConsulError::Token(_) => {
            (Exit::Failure, "check --token-file or CONSUL_HTTP_TOKEN_FILE, and the file's permissions".to_owned())
        }
        ConsulError::Status(..)
        | ConsulError::NoIndex
        | ConsulError::Json(_)
        | ConsulError::BadResponse(_)
        | ConsulError::Encoded(_) => (
            Exit::Failure,
            "check that --http-addr or CONSUL_HTTP_ADDR is a Consul agent, without a proxy in front of it".to_owned(),
        ),
        other @ (ConsulError::TooLarge(_) | ConsulError::Unclear(_) | ConsulError::Setup(_)) => {
            (Exit::Failure, other.remedy().to_owned())
        }
    };
    Failure::caused(exit, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_consul_determines_the_exit_code() {
        let exit = |error| failed(error, "key \"k\" { policy = \"write\" }").exit;
        let address = || crate::consul::Address::default();
        assert_eq!(exit(ConsulError::NoLeader), Exit::Unreachable);
        assert_eq!(exit(ConsulError::Timeout(address())), Exit::Unreachable);
        let no_leader = (reqwest::StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader".to_owned());
        assert_eq!(exit(ConsulError::Unavailable(no_leader.0, no_leader.1)), Exit::Unreachable);
        assert_eq!(exit(ConsulError::Denied("Permission denied".to_owned())), Exit::Denied);
        assert_eq!(exit(ConsulError::NoIndex), Exit::Failure);
    }
}
