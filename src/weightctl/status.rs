mod report;

use std::time::Duration;

use reqwest::{Url, redirect::Policy};
use weightd_core::model::Escaped;

use self::report::Report;
use super::{
    Exit,
    failure::Failure,
    output::{self, Format},
};
use crate::consul::tls::without_trust;

/// How long weightd may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most bytes of its answer.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

/// Show what this host's weightd and HAProxy have made of it
///
/// For each server: what Consul says (desired), what passed the guards (accepted), what HAProxy has
/// (observed). Ends with 0 if HAProxy has what it should have, else with 3.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask the weightd of this host
    #[arg(long)]
    local: bool,
    /// Where that weightd listens
    #[arg(long, value_name = "URL", env = "WEIGHTD_API", hide_env_values = true, default_value = "http://127.0.0.1:9110", value_parser = url)]
    api: Url,
}

/// What is no URL of weightd's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("write it as http://127.0.0.1:9110")]
struct InvalidUrl;

fn url(text: &str) -> Result<Url, InvalidUrl> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|_| InvalidUrl)?;
    let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
    if plain { Ok(url) } else { Err(InvalidUrl) }
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
enum NoStatus {
    #[error("weightd at {api} cannot be reached")]
    Unreachable {
        api: String,
        #[source]
        source: reqwest::Error,
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
            Self::Unreachable { .. } => "see `systemctl status weightd`, and `listen` in its configuration",
            Self::Refused { .. } | Self::TooLarge(_) | Self::NotStatus { .. } => {
                "check that --api or WEIGHTD_API is the address on which weightd listens"
            }
        }
    }
}

/// In JSON: what weightd says at /v1/status, as it says it.
pub(super) async fn run(args: &Args, format: Format) -> Result<Exit, Failure> {
    if !args.local {
        let message = "only the status of this host is there yet, not that of the fleet";
        return Err(Failure::new(Exit::Usage, message).hint("use `weightctl status --local`"));
    }
    let (text, report) = fetch(&args.api).await.map_err(failed)?;
    match format {
        Format::Json => output::json(&text)?,
        Format::Table => output::print(&report.to_string())?,
    }
    Ok(if report.converged() { Exit::Ok } else { Exit::NotConverged })
}

fn failed(error: NoStatus) -> Failure {
    let hint = error.hint();
    Failure::caused(Exit::Failure, error).hint(hint)
}

/// What the weightd at `api` says.
pub(super) async fn read(api: &str) -> Result<Report, Failure> {
    let api = url(api).map_err(|error| Failure::caused(Exit::Usage, error))?;
    fetch(&api).await.map(|(_, report)| report).map_err(failed)
}

async fn fetch(api: &Url) -> Result<(String, Report), NoStatus> {
    let shown = api.as_str().trim_end_matches('/').to_owned();
    let unreachable =
        |source: reqwest::Error| NoStatus::Unreachable { api: shown.clone(), source: source.without_url() };
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
    let report = serde_json::from_str(&text).map_err(|source| NoStatus::NotStatus { api: shown, source })?;
    Ok((text, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_weightd_is_plain_http() {
        assert_eq!(url("127.0.0.1:9110").unwrap().as_str(), "http://127.0.0.1:9110/");
        assert_eq!(url("http://[::1]:9110/").unwrap().as_str(), "http://[::1]:9110/");
        for text in ["", "https://h", "http://u:p@h", "unix:///x", "http://"] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
