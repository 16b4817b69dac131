//! What pause and resume have in common: the weightd of this host, over its Unix socket.

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
use crate::consul::Env;

/// The variable that names the socket.
const SOCKET: &str = "WEIGHTD_SOCKET";
/// How long weightd may take. It waits for what is on its way to HAProxy, and for the disk.
const DEADLINE: Duration = Duration::from_secs(15);
/// The most bytes of its answer.
const MAX_RESPONSE: usize = 64 * 1024;

/// Whom to tell, and who tells it.
#[derive(Debug, clap::Args)]
pub(super) struct Local {
    /// Tell the weightd of this host, and no other
    #[arg(long = "local")]
    here: bool,
    /// Only this HAProxy of that weightd, by its name in the configuration; else each of them
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<String>,
    /// Who; for log and status
    #[arg(long, value_name = "NAME", help = "Who; for log and status [default: $SUDO_USER, $USER or the user id]")]
    by: Option<String>,
    /// The Unix socket of that weightd
    #[arg(
        long,
        value_name = "PATH",
        help = "The Unix socket of that weightd [env: WEIGHTD_SOCKET] [default: `socket` of this host's weightd, else /run/weightd/weightd.sock]"
    )]
    socket: Option<PathBuf>,
}

/// Why weightd did not do it.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error("no weightd listens at {}", Escaped(.0))]
    NotRunning(String),
    #[error("this user may not open {}", Escaped(.0))]
    Denied(String),
    #[error("the weightd at {} gives no answer", Escaped(.socket))]
    NoAnswer {
        socket: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{text}", text = Escaped(.error.error.as_str()))]
    Refused { status: StatusCode, error: ApiError },
    #[error("{} answered {status}; it is no weightd that can be paused", Escaped(.socket))]
    Stranger { socket: String, status: StatusCode },
}

impl NotDone {
    fn failure(self) -> Failure {
        let hint = match &self {
            Self::NotRunning(_) => {
                "see `systemctl status weightd`; its socket is `socket` in [api] of its configuration, \
                                    and --socket or WEIGHTD_SOCKET here"
                    .to_owned()
            }
            Self::Denied(socket) => {
                format!("use sudo, or join the group that `stat -c %G {}` names, and log in again", Escaped(socket))
            }
            Self::NoAnswer { .. } => "see `weightctl status --local` and `journalctl -u weightd`".to_owned(),
            Self::Refused { error, .. } => Escaped(&error.hint).to_string(),
            Self::Stranger { .. } => "check that --socket or WEIGHTD_SOCKET is that of weightd".to_owned(),
        };
        let exit = match &self {
            Self::Refused { status, .. } if status.is_client_error() => Exit::Refused,
            _ => Exit::Failure,
        };
        Failure::caused(exit, self).hint(hint)
    }
}

impl Local {
    /// Refuses what is not about this host: a fleet is paused nowhere.
    pub(super) fn check(&self, verb: &str) -> Result<(), Failure> {
        if self.here {
            return Ok(());
        }
        let message = format!("`{verb}` is about the weightd of this host only");
        Err(Failure::new(Exit::Usage, message).hint(format!("say so with `weightctl {verb} --local`")))
    }

    /// Who asks.
    pub(super) fn by(&self, env: &Env<'_>) -> Option<String> {
        self.by.clone().or_else(|| change::user(env))
    }

    /// Asks weightd for it.
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
                .hint("set `socket` in [api] of its configuration, and restart weightd"));
        };
        exchange(&socket, path, body).await.map_err(NotDone::failure)
    }
}

async fn exchange<T: DeserializeOwned>(socket: &Path, path: &str, body: Vec<u8>) -> Result<T, NotDone> {
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
            return Err(NotDone::Stranger { socket: shown(), status });
        }
        answer.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&answer).map_err(|_| NotDone::Stranger { socket: shown(), status });
    }
    match serde_json::from_slice(&answer) {
        Ok(error) => Err(NotDone::Refused { status, error }),
        Err(_) => Err(NotDone::Stranger { socket: shown(), status }),
    }
}

fn failed(socket: &Path, source: reqwest::Error) -> NotDone {
    let socket = socket.display().to_string();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return NotDone::NotRunning(socket),
            Some(io::ErrorKind::PermissionDenied) => return NotDone::Denied(socket),
            _ => cause = error.source(),
        }
    }
    NotDone::NoAnswer { socket, source: source.without_url() }
}

/// The names of instances, as people list them.
pub(super) fn names(instances: &[String]) -> String {
    Escaped(&instances.join(", ")).to_string()
}
