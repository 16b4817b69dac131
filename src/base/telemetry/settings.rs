//! The log settings of a configuration file or an environment variable: filter and format.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use weightd_core::model::Escaped;

use crate::base::config::{ConfigError, Env, Place, UnknownChoice, Value, choose};

/// The log settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    /// Which events are logged.
    pub level: Filter,
    /// The format of a line.
    pub format: Format,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// [`Format::Journal`] if standard error is systemd's journal, else [`Format::Text`].
    #[default]
    Auto,
    /// Text for people, with colours on a terminal.
    Text,
    /// Text for systemd's journal: a priority instead of time and level. The journal stores those itself.
    Journal,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let choices = [("auto", Self::Auto), ("text", Self::Text), ("journal", Self::Journal), ("json", Self::Json)];
        choose(text, &choices)
    }
}

/// Selects the events to log: a level, or levels by target.
///
/// The text form is `debug`, `weightd::haproxy=trace`, or several of these separated by commas. A level without a
/// target applies to weightd and weightctl; the default is `info`. Libraries stay at `warn` unless the filter names
/// them, as in
/// `info,hyper=debug`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    text: String,
    targets: Targets,
}

/// The text is not a valid filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// The text is empty.
    #[error("the level is empty; write one, such as info")]
    Empty,
    /// Not a log level.
    #[error("the level {0}")]
    Level(UnknownChoice),
    /// The part before the equals sign is not a module path.
    #[error("`{}` is not a target; write a module path, as in weightd::haproxy=debug", Escaped(.0))]
    Target(String),
}

const LEVELS: [(&str, LevelFilter); 6] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
    ("off", LevelFilter::OFF),
];

/// The crates of this package.
pub(crate) const OWN: [&str; 2] = ["weightd", "weightctl"];

impl Filter {
    /// Returns the filter for tracing.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }
}

impl Default for Filter {
    /// `info`.
    fn default() -> Self {
        Self { text: "info".to_owned(), targets: targets(LevelFilter::INFO) }
    }
}

fn targets(own: LevelFilter) -> Targets {
    Targets::new().with_default(LevelFilter::WARN).with_targets(OWN.map(|target| (target, own)))
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let level = |word: &str| choose(&word.to_ascii_lowercase(), &LEVELS).map_err(InvalidFilter::Level);
        let mut own = LevelFilter::INFO;
        let mut named = Vec::new();
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        if parts().next().is_none() {
            return Err(InvalidFilter::Empty);
        }
        for part in parts() {
            match part.split_once('=') {
                None => own = level(part)?,
                Some((target, word)) => {
                    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':');
                    if target.is_empty() || !target.bytes().all(fits) {
                        return Err(InvalidFilter::Target(target.to_owned()));
                    }
                    named.push((target.to_owned(), level(word)?));
                }
            }
        }
        Ok(Self { text: parts().collect::<Vec<_>>().join(","), targets: targets(own).with_targets(named) })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// `[log]`, before validation. All keys are optional; unknown keys are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub struct Section {
    level: Value<String>,
    format: Value<String>,
}

impl Section {
    /// Validates the section. The environment variable `variable` sets the level and takes precedence.
    ///
    /// # Errors
    /// [`ConfigError`] names the key or the variable, and the fix.
    pub fn resolve(self, place: &Place<'_>, env: &Env<'_>, variable: &'static str) -> Result<Log, ConfigError> {
        let configured = place.read("log.level", self.level, str::parse)?;
        let set = env(variable).filter(|value| !value.is_empty()).map(|value| value.parse()).transpose();
        let set = set.map_err(|error: InvalidFilter| ConfigError::Environment { variable, what: error.to_string() })?;
        Ok(Log {
            level: set.or(configured).unwrap_or_default(),
            format: place.read("log.format", self.format, str::parse)?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn enables(filter: &str, target: &str, level: Level) -> bool {
        filter.parse::<Filter>().unwrap().targets().would_enable(target, &level)
    }

    #[test]
    fn a_level_without_a_target_applies_to_our_crates_only() {
        for target in ["weightd", "weightd::haproxy", "weightctl"] {
            assert!(enables("debug", target, Level::DEBUG) && !enables("debug", target, Level::TRACE), "{target}");
        }
        assert!(enables("trace", "hyper::client", Level::WARN) && !enables("trace", "hyper::client", Level::INFO));
    }

    #[test]
    fn a_named_target_has_its_own_level() {
        let filter = "weightd::haproxy=trace, hyper=debug ,weightctl=error";
        assert!(enables(filter, "weightd::haproxy::line", Level::TRACE));
        assert!(enables(filter, "weightd", Level::INFO) && !enables(filter, "weightd", Level::DEBUG));
        assert!(enables(filter, "hyper::client", Level::DEBUG));
        assert!(!enables(filter, "weightctl", Level::WARN));
        assert!(enables("WARN,weightd=debug", "weightd", Level::DEBUG));
        assert_eq!(filter.parse::<Filter>().unwrap().to_string(), "weightd::haproxy=trace,hyper=debug,weightctl=error");
        assert_eq!("info".parse::<Filter>(), Ok(Filter::default()));
    }

    #[test]
    fn a_typo_is_rejected_and_does_not_change_the_log() {
        assert_eq!(
            "inof".parse::<Filter>().unwrap_err().to_string(),
            "the level `inof` is not known; did you mean `info`?"
        );
        assert_eq!(
            "hyper".parse::<Filter>().unwrap_err().to_string(),
            "the level `hyper` is not known; write one of `error`, `warn`, `info`, `debug`, `trace`, `off`"
        );
        assert!(matches!("weightd=inf".parse::<Filter>(), Err(InvalidFilter::Level(_))));
        assert!(matches!("weightd=".parse::<Filter>(), Err(InvalidFilter::Level(_))));
        assert!(matches!("[span]=info".parse::<Filter>(), Err(InvalidFilter::Target(_))));
        assert!(matches!("=info".parse::<Filter>(), Err(InvalidFilter::Target(_))));
        assert_eq!(" ,".parse::<Filter>(), Err(InvalidFilter::Empty));
    }
}
