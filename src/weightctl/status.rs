mod fleet;
mod report;

use std::time::Duration;

use reqwest::{Url, redirect::Policy};
use serde_json::Value;
use weightd_core::{
    fleet::NodeName,
    model::{BackendName, Escaped, nearest},
    wire::status::{BackendState, BackendStatus, ConsulStatus, LinkState, Status},
};

pub(super) use self::fleet::{nodes_table, off_text, read as read_fleet};
use super::{
    Exit,
    context::Context,
    failure::Failure,
    output::{self, Format},
};
use crate::{base::chain::RootCause, consul::tls::without_trust};

/// The environment variable with the address of weightd's API.
const API: &str = "WEIGHTD_API";
/// Time limit for weightd's answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Maximum size of the answer in bytes.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  weightctl status                   every node and every backend
  weightctl status app1              which nodes have the weights of app1
  weightctl status --problems        only what is wrong, and what to do
  weightctl status --watch           again every second
  weightctl status --local           this host: weights in Consul and in HAProxy

Exit codes: 3 if something is not in sync, 4 denied, 6 Consul unreachable.";

/// Show which nodes have the weights in Consul, and why the others do not
///
/// Each weightd reports to Consul what its HAProxy has. Shows the nodes, and for each backend what is desired and which
/// nodes do not have it. Exits with 0 if every node is in sync, else with 3.
///
/// With --local, shows this host: for each server the weight in Consul (desired), the weight that passed the guards
/// (accepted), the weight in HAProxy (observed), and its share of the new traffic. weightd reads HAProxy and Consul for
/// each status. Then exits with 0 if every weight equals the one in Consul, else with 3. Also exits with 3 if Consul does
/// not answer: then its current content is unknown.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Only this backend
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
    /// Only this node
    #[arg(long, value_name = "NODE", value_parser = NodeName::new, conflicts_with_all = ["backend", "local"])]
    node: Option<NodeName>,
    /// Only the problems, each with what to do
    #[arg(long, conflicts_with = "local")]
    problems: bool,
    /// Show it again every second, until Ctrl-C
    #[arg(long, conflicts_with = "local")]
    watch: bool,
    /// The status of this host
    #[arg(long)]
    local: bool,
    /// The address of weightd's API
    #[arg(
        long,
        value_name = "URL",
        help = "The address of weightd's API [env: WEIGHTD_API] [default: `listen` of this host's weightd, else http://127.0.0.1:9110]",
        value_parser = url
    )]
    api: Option<Url>,
}

/// The error for a text that is not the URL of a weightd.
#[derive(Debug, Clone, thiserror::Error)]
#[error("write it as http://127.0.0.1:9110")]
struct InvalidUrl;

fn url(text: &str) -> Result<Url, InvalidUrl> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|_| InvalidUrl)?;
    let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
    if plain { Ok(url) } else { Err(InvalidUrl) }
}

/// The error of a status request.
#[derive(Debug, thiserror::Error)]
enum NoStatus {
    #[error("weightd at {api} cannot be reached")]
    Unreachable {
        api: String,
        #[source]
        source: RootCause<reqwest::Error>,
    },
    #[error("{api} answered {status}: {text}", text = Escaped(text))]
    Refused { api: String, status: reqwest::StatusCode, text: String },
    #[error("the answer of {0} is too large")]
    TooLarge(String),
    #[error("the answer of {api} is not the status of a weightd")]
    NotStatus {
        api: String,
        #[source]
        source: serde_json::Error,
    },
}

impl NoStatus {
    fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "check `systemctl status weightd`, and `listen` in [api] of its configuration",
            Self::Refused { .. } | Self::TooLarge(_) | Self::NotStatus { .. } => {
                "check that --api or WEIGHTD_API equals `listen` in [api] of weightd's configuration"
            }
        }
    }
}

/// Maximum age of Consul's last answer for exit code 0, in seconds. weightd asks Consul for each status, so an older
/// answer means that Consul does not answer.
const MAX_CONSUL_AGE: f64 = 2.5;

/// Shows the status of the fleet, or of this host.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    if args.local { local(args, context).await } else { fleet::run(args, context).await }
}

/// Shows the status of this host. The JSON output is the [`Status`] with every field that weightd sends, also unknown
/// fields of a newer version.
async fn local(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let (mut value, mut status) = of_this_host(args, context).await?;
    let mut exit = if is_converged(&status) { Exit::Ok } else { Exit::NotConverged };
    if let Some(backend) = &args.backend {
        exit = retain(backend, &mut value, &mut status)?;
    }
    match context.format {
        Format::Json => context.format.json(&value)?,
        Format::Table => output::print(&report::text(&status, output::columns()))?,
    }
    Ok(exit)
}

/// The status of this host's weightd: as it was sent, and decoded.
async fn of_this_host(args: &Args, context: &Context<'_>) -> Result<(Value, Status), Failure> {
    let api = match (&args.api, address(context)) {
        (Some(api), _) => api.clone(),
        (None, Some(api)) => url(&api).map_err(|error| Failure::caused(Exit::Usage, error).context(api))?,
        (None, None) => {
            let failure = Failure::new(Exit::Failure, "the HTTP API of this host's weightd is off");
            return Err(failure.hint("set `listen` in [api] of its configuration, then restart weightd"));
        }
    };
    let (text, status) = fetch(&api).await.map_err(failed)?;
    let value = serde_json::from_str(&text).map_err(|error| Failure::caused(Exit::Failure, error))?;
    Ok((value, status))
}

/// Keeps only one backend, and returns the exit code for it.
fn retain(backend: &BackendName, value: &mut Value, status: &mut Status) -> Result<Exit, Failure> {
    let known: Vec<_> = status.instances.iter().flat_map(|i| &i.backends).filter_map(|b| b.backend.clone()).collect();
    if !known.contains(backend) {
        let near = nearest(backend.as_str(), known.iter().map(BackendName::as_str));
        return Err(Failure::new(Exit::Refused, format!("weightd on this host does not know backend `{backend}`"))
            .hint(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`weightctl status --local` shows the backends of this host".to_owned(),
            }));
    }
    let mut converged = true;
    for instance in &mut status.instances {
        instance.backends.retain(|status| status.backend.as_ref() == Some(backend));
        let settled = |status: &BackendStatus| matches!(status.state, BackendState::Converged | BackendState::Released);
        converged &=
            instance.backends.is_empty() || instance.backends.iter().all(settled) && is_current(&instance.consul);
    }
    for instance in value["instances"].as_array_mut().into_iter().flatten() {
        if let Some(backends) = instance["backends"].as_array_mut() {
            backends.retain(|status| status["backend"] == backend.as_str());
        }
    }
    Ok(if converged { Exit::Ok } else { Exit::NotConverged })
}

/// The address of this host's weightd, from the environment or its configuration; none if its API is off.
pub(super) fn address(context: &Context<'_>) -> Option<String> {
    (context.env)(API).filter(|api| !api.is_empty()).or_else(|| context.host().api())
}

/// Whether every HAProxy of this weightd has the weights that Consul has now. False without any HAProxy.
fn is_converged(status: &Status) -> bool {
    !status.instances.is_empty()
        && status.instances.iter().all(|instance| instance.converged && is_current(&instance.consul))
}

/// Whether Consul's current content is known.
fn is_current(consul: &ConsulStatus) -> bool {
    consul.state == LinkState::Following && consul.last_read_age_seconds.is_some_and(|age| age <= MAX_CONSUL_AGE)
}

fn failed(error: NoStatus) -> Failure {
    let hint = error.hint();
    Failure::caused(Exit::Failure, error).hint(hint)
}

/// The status of the weightd at `api`.
pub(super) async fn read(api: &str) -> Result<Status, Failure> {
    let api = url(api).map_err(|error| Failure::caused(Exit::Usage, error))?;
    fetch(&api).await.map(|(_, status)| status).map_err(failed)
}

async fn fetch(api: &Url) -> Result<(String, Status), NoStatus> {
    let shown = api.as_str().trim_end_matches('/').to_owned();
    let unreachable =
        |source: reqwest::Error| NoStatus::Unreachable { api: shown.clone(), source: RootCause(source.without_url()) };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(without_trust())
        .no_proxy()
        .redirect(Policy::none())
        .timeout(DEADLINE)
        .build()
        .map_err(unreachable)?;
    let mut response = client.get(format!("{shown}/v1/status")).send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_RESPONSE {
            return Err(NoStatus::TooLarge(shown));
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        let text = text.trim().chars().take(Escaped::MAX_CHARS).collect();
        return Err(NoStatus::Refused { api: shown, status, text });
    }
    let parsed = serde_json::from_str(&text).map_err(|source| NoStatus::NotStatus { api: shown, source })?;
    Ok((text, parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_converged_only_if_every_instance_is_and_consul_answered_recently() {
        let converged = |instances: &str| {
            is_converged(&serde_json::from_str::<Status>(&format!(r#"{{"instances":[{instances}]}}"#)).unwrap())
        };
        let instance = |converged: bool, state: &str, age: &str| {
            format!(r#"{{"converged":{converged},"consul":{{"state":"{state}","last_read_age_seconds":{age}}}}}"#)
        };
        let good = instance(true, "following", "0.1");
        assert!(!converged(""), "no HAProxy");
        assert!(converged(&good) && converged(&format!("{good},{good}")));
        assert!(!converged(&format!("{good},{}", instance(false, "following", "0.1"))));
        assert!(!converged(&instance(true, "held", "0.1")));
        assert!(!converged(&instance(true, "following", "4")), "a later write may be missing");
        assert!(!converged(&instance(true, "following", "null")));
        assert!(!converged(&instance(true, "a_new_word", "0.1")));
    }

    #[test]
    fn the_address_of_weightd_uses_plain_http() {
        assert_eq!(url("127.0.0.1:9110").unwrap().as_str(), "http://127.0.0.1:9110/");
        assert_eq!(url("http://[::1]:9110/").unwrap().as_str(), "http://[::1]:9110/");
        for text in ["", "https://h", "http://u:p@h", "unix:///x", "http://"] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
