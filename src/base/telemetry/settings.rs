//! What is logged and how, as a configuration file or a variable says it.

use std::{fmt, str::FromStr};

use tracing_subscriber::filter::{LevelFilter, Targets};
use weightd_core::model::Escaped;

use crate::base::config::{UnknownChoice, choose};

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    /// What is logged.
    pub level: Filter,
    /// How it is written.
    pub format: Format,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// What fits where it goes: [`Format::Journal`] when standard error is systemd's journal, else
    /// [`Format::Text`].
    #[default]
    Auto,
    /// For people, with colours on a terminal.
    Text,
    /// For systemd's journal: a priority instead of time and level, which the journal keeps itself.
    Journal,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let choices = [("auto", Self::Auto), ("text", Self::Text), ("journal", Self::Journal), ("json", Self::Json)];
        choose(text, &choices)
    }
}

/// What is logged: a level, or levels by target.
///
/// Written `debug`, `weightd::haproxy=trace` or several with commas between. A level alone is that of weightd
/// and weightctl, `info` if there is none. Everything else, the libraries they are built from, stays at
/// `warn` unless it is named, as in `info,hyper=debug`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    text: String,
    targets: Targets,
}

/// Text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Nothing there.
    #[error("the level is empty; write one, such as info")]
    Empty,
    /// A word that is no level.
    #[error("the level {0}")]
    Level(UnknownChoice),
    /// Something else than a module's path before the equals sign.
    #[error("`{}` is not a target; write a module's path, as in weightd::haproxy=debug", Escaped(.0))]
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
    /// The filter as tracing takes it.
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

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn enables(filter: &str, target: &str, level: Level) -> bool {
        filter.parse::<Filter>().unwrap().targets().would_enable(target, &level)
    }

    #[test]
    fn a_level_alone_is_ours_and_libraries_stay_at_warn() {
        for target in ["weightd", "weightd::haproxy", "weightctl"] {
            assert!(enables("debug", target, Level::DEBUG) && !enables("debug", target, Level::TRACE), "{target}");
        }
        assert!(enables("trace", "hyper::client", Level::WARN) && !enables("trace", "hyper::client", Level::INFO));
    }

    #[test]
    fn what_is_named_gets_its_own_level() {
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
    fn a_slip_is_refused_instead_of_silencing_or_flooding() {
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
