//! How to reach Consul, layer upon layer: flags, the environment, the file, the defaults.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

pub use super::token::TokenError;
use super::{
    address::{Address, InvalidAddress, NO_TLS},
    root::{InvalidSegment, check_segment},
    token::{InvalidToken, TokenSource},
};

/// The environment: the value of a variable, if it is set. An argument, so that tests run in parallel.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// How to reach Consul, and as whom.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where it listens.
    pub address: Address,
    /// The ACL token.
    pub token: TokenSource,
    /// `user:password` of a proxy in front of it.
    pub auth: Option<SecretString>,
    /// The datacenter; the agent's own if absent.
    pub datacenter: Option<String>,
    /// The namespace (Consul Enterprise).
    pub namespace: Option<String>,
    /// The admin partition (Consul Enterprise).
    pub partition: Option<String>,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let Self { address, token, auth, datacenter, namespace, partition } = self;
        let auth = auth.as_ref().map(ExposeSecret::expose_secret);
        *address == other.address
            && *token == other.token
            && auth == other.auth.as_ref().map(ExposeSecret::expose_secret)
            && *datacenter == other.datacenter
            && *namespace == other.namespace
            && *partition == other.partition
    }
}

/// A variable of the environment that is refused. Never shows its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {problem}")]
pub struct InvalidVariable {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong with its value.
    pub problem: Problem,
}

/// What can be wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No address of Consul.
    #[error("{0}")]
    Address(InvalidAddress),
    /// It asks for TLS.
    #[error("{NO_TLS}, and unset the variable")]
    Tls,
    /// No boolean as Go's `ParseBool` reads them.
    #[error("neither true nor false; write one of them")]
    NotBoolean,
    /// No name of a datacenter, namespace or partition.
    #[error("not a name: {0}")]
    Name(InvalidSegment),
    /// No token.
    #[error("{0}")]
    Token(InvalidToken),
    /// No password.
    #[error("there is nothing in it; write user:password, or remove the setting")]
    Empty,
    /// A control character in a password.
    #[error("it contains a control character; write user:password")]
    Control,
}

/// What one place says about Consul: the flags, the environment, or the file. The first place that says
/// something about a setting decides it.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// See [`Settings::address`].
    pub address: Option<Address>,
    /// See [`Settings::token`].
    pub token: Option<TokenSource>,
    /// See [`Settings::auth`].
    pub auth: Option<SecretString>,
    /// See [`Settings::datacenter`].
    pub datacenter: Option<String>,
    /// See [`Settings::namespace`].
    pub namespace: Option<String>,
    /// See [`Settings::partition`].
    pub partition: Option<String>,
}

/// Variables that ask for TLS by being set.
const TLS_VARIABLES: [&str; 5] =
    ["CONSUL_CACERT", "CONSUL_CAPATH", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY", "CONSUL_TLS_SERVER_NAME"];

/// The longest name of a datacenter, namespace or partition, in characters.
const MAX_NAME: usize = 64;

impl Layer {
    /// Fills what this layer leaves open from the variables that Consul's own programs read. An empty
    /// variable counts as unset, and one that is not needed is not looked at.
    ///
    /// # Errors
    /// [`InvalidVariable`] for a value that cannot be used, and for every variable that asks for TLS.
    pub fn over_env(mut self, env: &Env<'_>) -> Result<Self, InvalidVariable> {
        let get = |variable: &'static str| env(variable).filter(|value| !value.is_empty());
        let wrong = |variable| move |problem| InvalidVariable { variable, problem };

        if let Some(variable) = TLS_VARIABLES.into_iter().find(|variable| get(variable).is_some()) {
            return Err(wrong(variable)(Problem::Tls));
        }
        if let Some(value) = get("CONSUL_HTTP_SSL") {
            match parse_bool(&value) {
                Some(false) => {}
                Some(true) => return Err(wrong("CONSUL_HTTP_SSL")(Problem::Tls)),
                None => return Err(wrong("CONSUL_HTTP_SSL")(Problem::NotBoolean)),
            }
        }
        if self.address.is_none() {
            self.address = get("CONSUL_HTTP_ADDR")
                .map(|value| value.parse().map_err(Problem::Address))
                .transpose()
                .map_err(wrong("CONSUL_HTTP_ADDR"))?;
        }
        if self.token.is_none() {
            self.token = match get("CONSUL_HTTP_TOKEN_FILE") {
                Some(path) => Some(TokenSource::File(PathBuf::from(path))),
                None => get("CONSUL_HTTP_TOKEN")
                    .map(|value| TokenSource::value(&value).map_err(Problem::Token))
                    .transpose()
                    .map_err(wrong("CONSUL_HTTP_TOKEN"))?,
            };
        }
        if self.auth.is_none() {
            self.auth =
                get("CONSUL_HTTP_AUTH").map(|value| auth(&value)).transpose().map_err(wrong("CONSUL_HTTP_AUTH"))?;
        }
        for (variable, name) in [("CONSUL_NAMESPACE", &mut self.namespace), ("CONSUL_PARTITION", &mut self.partition)] {
            if name.is_none() {
                *name = get(variable).map(|value| self::name(&value)).transpose().map_err(wrong(variable))?;
            }
        }
        Ok(self)
    }

    /// Fills what this layer leaves open from the one below it.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            address: self.address.or(below.address),
            token: self.token.or(below.token),
            auth: self.auth.or(below.auth),
            datacenter: self.datacenter.or(below.datacenter),
            namespace: self.namespace.or(below.namespace),
            partition: self.partition.or(below.partition),
        }
    }

    /// Fills what is still open with the defaults.
    pub fn settings(self) -> Settings {
        Settings {
            address: self.address.unwrap_or_default(),
            token: self.token.unwrap_or_default(),
            auth: self.auth,
            datacenter: self.datacenter,
            namespace: self.namespace,
            partition: self.partition,
        }
    }
}

impl Settings {
    /// What `flags` say, then what the environment says, then the defaults.
    ///
    /// # Errors
    /// As [`Layer::over_env`].
    pub fn from_env(env: &Env<'_>, flags: Layer) -> Result<Self, InvalidVariable> {
        flags.over_env(env).map(Layer::settings)
    }
}

/// A user and a password, as `user:password` or `user`.
///
/// # Errors
/// [`Problem::Empty`] and [`Problem::Control`].
pub(crate) fn auth(text: &str) -> Result<SecretString, Problem> {
    match text {
        "" => Err(Problem::Empty),
        _ if text.contains(char::is_control) => Err(Problem::Control),
        _ => Ok(SecretString::from(text)),
    }
}

/// The name of a datacenter, namespace or partition.
///
/// # Errors
/// [`Problem::Name`].
pub(crate) fn name(text: &str) -> Result<String, Problem> {
    check_segment(text, MAX_NAME).map_err(Problem::Name)?;
    Ok(text.to_owned())
}

/// Reads a boolean as Go's `strconv.ParseBool` does, because Consul's own programs do.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An environment of these variables alone.
    fn env<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, InvalidVariable> {
        Settings::from_env(&env(variables), Layer::default())
    }

    #[test]
    fn an_empty_environment_means_the_agent_on_this_machine() {
        let expected = Settings::default();
        assert_eq!(settings(&[]).unwrap(), expected);
        assert_eq!(
            settings(&[("CONSUL_HTTP_ADDR", ""), ("CONSUL_CACERT", ""), ("CONSUL_HTTP_SSL", "")]).unwrap(),
            expected
        );
        assert_eq!(expected.address.to_string(), "http://127.0.0.1:8500");
    }

    #[test]
    fn every_variable_is_honoured() {
        let settings = settings(&[
            ("CONSUL_HTTP_ADDR", "unix:///run/consul.sock"),
            ("CONSUL_HTTP_TOKEN", " abc\n"),
            ("CONSUL_HTTP_AUTH", "user:pass word"),
            ("CONSUL_NAMESPACE", "team-a"),
            ("CONSUL_PARTITION", "edge"),
            ("CONSUL_HTTP_SSL", "F"),
        ])
        .unwrap();
        assert_eq!(settings.address, Address::Unix("/run/consul.sock".into()));
        assert_eq!(settings.token.read().unwrap().unwrap().expose_secret(), "abc");
        assert_eq!(settings.auth.as_ref().unwrap().expose_secret(), "user:pass word");
        assert_eq!(settings.namespace.as_deref(), Some("team-a"));
        assert_eq!(settings.partition.as_deref(), Some("edge"));
    }

    #[test]
    fn a_token_file_beats_a_token() {
        let settings = settings(&[("CONSUL_HTTP_TOKEN", "abc"), ("CONSUL_HTTP_TOKEN_FILE", "/t")]).unwrap();
        assert_eq!(settings.token, TokenSource::File("/t".into()));
    }

    #[test]
    fn flags_beat_the_environment_even_where_that_is_broken() {
        let flags =
            Layer { address: Some("consul:1".parse().unwrap()), namespace: Some("a".to_owned()), ..Layer::default() };
        let variables = [("CONSUL_HTTP_ADDR", "https://h"), ("CONSUL_NAMESPACE", "b c"), ("CONSUL_PARTITION", "p")];
        let settings = Settings::from_env(&env(&variables), flags).unwrap();
        assert_eq!(settings.address.to_string(), "http://consul:1");
        assert_eq!(settings.namespace.as_deref(), Some("a"));
        assert_eq!(settings.partition.as_deref(), Some("p"));
    }

    #[test]
    fn whoever_asks_for_tls_is_told_that_there_is_none() {
        let asking = [
            ("CONSUL_HTTP_ADDR", "https://127.0.0.1:8501"),
            ("CONSUL_HTTP_SSL", "1"),
            ("CONSUL_HTTP_SSL", "True"),
            ("CONSUL_CACERT", "/ca.pem"),
            ("CONSUL_CAPATH", "/ca"),
            ("CONSUL_CLIENT_CERT", "/cert.pem"),
            ("CONSUL_CLIENT_KEY", "/key.pem"),
        ];
        for variable in asking {
            let error = settings(&[variable]).unwrap_err();
            assert_eq!(error.variable, variable.0);
            assert!(error.to_string().contains("TLS to Consul is not supported yet"), "{error}");
        }
        // Also where a flag names an address without it.
        let flags = Layer { address: Some(Address::default()), ..Layer::default() };
        assert!(Settings::from_env(&env(&[("CONSUL_HTTP_SSL", "true")]), flags).is_err());
    }

    #[test]
    fn a_bad_value_names_its_variable_and_is_not_repeated() {
        for (variable, value) in [
            ("CONSUL_HTTP_TOKEN", "hunter2 hunter2"),
            ("CONSUL_HTTP_AUTH", "user:hunter2\n"),
            ("CONSUL_HTTP_ADDR", "http://user:hunter2@h"),
            ("CONSUL_HTTP_SSL", "hunter2"),
        ] {
            let error = settings(&[(variable, value)]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("environment variable {variable}: ")), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn secrets_are_not_debugged_and_yet_compared() {
        let variables = [("CONSUL_HTTP_TOKEN", "hunter2"), ("CONSUL_HTTP_AUTH", "u:hunter2")];
        let one = settings(&variables).unwrap();
        assert!(!format!("{one:?}").contains("hunter2"), "{one:?}");
        assert_eq!(one, settings(&variables).unwrap());
        assert_ne!(one, settings(&[("CONSUL_HTTP_TOKEN", "hunter3"), ("CONSUL_HTTP_AUTH", "u:hunter2")]).unwrap());
        assert_ne!(one, settings(&[("CONSUL_HTTP_TOKEN", "hunter2"), ("CONSUL_HTTP_AUTH", "u:hunter3")]).unwrap());
    }
}
