use weightd_core::rollout::plan::{Plan, PlanFile, Problem};

use super::KeyRead;
use crate::documents::{Documents, DocumentsError};

/// A plan that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It was not read.
    #[error(transparent)]
    Read(#[from] DocumentsError),
    /// There is no such plan.
    #[error("there is no plan `{0}` in Consul")]
    Missing(String),
    /// What is wrong with it.
    #[error(transparent)]
    Invalid(#[from] Problem),
}

/// Reads the text of a plan.
///
/// # Errors
/// [`Problem`] with the line.
pub fn parse_plan(text: &str) -> Result<Plan, Problem> {
    let parsed: Result<PlanFile, _> = toml::from_str(text);
    let file =
        parsed.map_err(|error| Problem::of_parser(text, error.span().map(|span| span.start), error.message()))?;
    file.resolve().map_err(|problem| problem.in_text(text))
}

impl Documents {
    /// Reads the names of the plans in Consul.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn plan_names(&self) -> Result<Vec<String>, DocumentsError> {
        let prefix = self.rollout_keys().plans();
        let names = self.read_prefix(&prefix, |entries| {
            let names = entries.iter().filter_map(|entry| entry.key.strip_prefix(&*prefix));
            Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
        });
        names.await.map(|(names, _)| names)
    }

    /// Reads a plan of Consul.
    ///
    /// # Errors
    /// [`PlanError`].
    pub async fn plan(&self, name: &str) -> Result<Plan, PlanError> {
        let key = self.rollout_keys().plan(name);
        let read: KeyRead<String> = self
            .read_key(&key, |value, _| {
                if value.len() > weightd_core::rollout::keys::MAX_SPEC {
                    let most = weightd_core::rollout::keys::MAX_SPEC;
                    return Err(weightd_core::rollout::BadValue::TooLarge(value.len(), most));
                }
                Ok(String::from_utf8_lossy(value).into_owned())
            })
            .await?;
        let place = weightd_core::rollout::plan::Place::Plan;
        match read.value {
            None => Err(PlanError::Missing(name.to_owned())),
            Some(Err(bad)) => Err(Problem::new(place, bad.to_string(), "write a shorter plan").into()),
            Some(Ok(text)) => Ok(parse_plan(&text)?),
        }
    }
}
