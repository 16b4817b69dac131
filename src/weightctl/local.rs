//! The client of this host's weightd over its Unix socket, for `pause`, `resume` and `override`.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{StatusCode, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};
use weightd_core::{model::Escaped, wire::pause::ApiError};

use super::{Exit, change, context::Context, failure::Failure};
use crate::{base::chain::RootCause, consul::Env};

/// The environment variable with the path of the socket.
const SOCKET: &str = "WEIGHTD_SOCKET";
/// Time limit for weightd's answer. weightd waits for commands that it sent to HAProxy, and for the disk.
const DEADLINE: Duration = Duration::from_secs(15);
/// Maximum size of the answer in bytes.
const MAX_RESPONSE: usize = 64 * 1024;

/// Options of the verbs that act on this host.
#[derive(Debug, clap::Args)]
pub(super) struct Local {
    /// For clarity only: this verb always acts on this host, never on the fleet
    #[arg(long = "local")]
    _explicit: bool,
    /// Only the HAProxy with this name in weightd's configuration
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<String>,
    /// Author; shown in log and status
    #[arg(
        long,
        value_name = "NAME",
        help = "Author; shown in log and status [default: $SUDO_USER, $USER or the user id]"
    )]
    by: Option<String>,
    /// weightd's Unix socket
    #[arg(
        long,
        value_name = "PATH",
        help = "weightd's Unix socket [env: WEIGHTD_SOCKET] [default: `socket` of this host's weightd, else /run/weightd/weightd.sock]"
    )]
    socket: Option<PathBuf>,
}

/// The error of a request to weightd's socket.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("no weightd listens at {}", Escaped(.0))]
    NotRunning(String),
    #[error("this user may not open {}", Escaped(.0))]
    Denied(String),
    #[error("the weightd at {} does not answer", Escaped(.socket))]
    NoAnswer {
        socket: String,
        #[source]
        source: RootCause<reqwest::Error>,
    },
    #[error("{text}", text = Escaped(.error.error.as_str()))]
    Refused { status: StatusCode, error: ApiError },
    #[error("{} answered {status}: it is not weightd's socket", Escaped(.socket))]
    NotWeightd { socket: String, status: StatusCode },
}

impl RequestError {
    fn failure(self) -> Failure {
        let hint = match &self {
            Self::NotRunning(_) => {
                "check `systemctl status weightd`; --socket or WEIGHTD_SOCKET must equal `socket` in [api] of its configuration"
                    .to_owned()
            }
            Self::Denied(_) => "run the command with sudo".to_owned(),
            Self::NoAnswer { .. } => "check `weightctl status --local` and `journalctl -u weightd`".to_owned(),
            Self::Refused { error, .. } => Escaped(&error.hint).to_string(),
            Self::NotWeightd { .. } => "check that --socket or WEIGHTD_SOCKET is weightd's socket".to_owned(),
        };
        let exit = match &self {
            Self::Refused { status, .. } if status.is_client_error() => Exit::Refused,
            _ => Exit::Failure,
        };
        Failure::caused(exit, self).hint(hint)
    }
}

impl Local {
    /// The author.
    pub(super) fn by(&self, env: &Env<'_>) -> Option<String> {
        self.by.clone().or_else(|| change::user(env))
    }

    /// Sends `body` as JSON to `path` of weightd's API, and returns the answer.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        context: &Context<'_>,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::caused(Exit::Failure, error))?;
        let named = || (context.env)(SOCKET).filter(|path| !path.is_empty()).map(PathBuf::from);
        let Some(socket) = self.socket.clone().or_else(named).or_else(|| context.host().socket()) else {
            let message = "the socket of this host's weightd is off";
            return Err(Failure::new(Exit::Failure, message)
                .hint("set `socket` in [api] of its configuration, then restart weightd"));
        };
        exchange(&socket, path, body).await.map_err(RequestError::failure)
    }
}

async fn exchange<T: DeserializeOwned>(socket: &Path, path: &str, body: Vec<u8>) -> Result<T, RequestError> {
    let failed = |source| failed(socket, source);
    let shown = || socket.display().to_string();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(crate::consul::tls::without_trust())
        .no_proxy()
        .redirect(Policy::none())
        .timeout(DEADLINE)
        .unix_socket(socket)
        .build()
        .map_err(failed)?;
    let mut response = client.post(format!("http://localhost{path}")).body(body).send().await.map_err(failed)?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if answer.len() + chunk.len() > MAX_RESPONSE {
            return Err(RequestError::NotWeightd { socket: shown(), status });
        }
        answer.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&answer).map_err(|_| RequestError::NotWeightd { socket: shown(), status });
    }
    match serde_json::from_slice(&answer) {
        Ok(error) => Err(RequestError::Refused { status, error }),
        Err(_) => Err(RequestError::NotWeightd { socket: shown(), status }),
    }
}

fn failed(socket: &Path, source: reqwest::Error) -> RequestError {
    let socket = socket.display().to_string();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return RequestError::NotRunning(socket);
            }
            Some(io::ErrorKind::PermissionDenied) => return RequestError::Denied(socket),
            _ => cause = error.source(),
        }
    }
    RequestError::NoAnswer { socket, source: RootCause(source.without_url()) }
}

/// The names of instances, separated by commas.
pub(super) fn names(instances: &[String]) -> String {
    Escaped(&instances.join(", ")).to_string()
}
