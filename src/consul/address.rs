//! The address of Consul's HTTP API.

use std::{fmt, path::PathBuf, str::FromStr};

use reqwest::Url;
use weightd_core::model::Escaped;

/// The address of Consul's HTTP API.
///
/// The text forms are those of Consul's own programs: `host:port`, `host` (port 8500), `http://host:port`,
/// `http://host:port/prefix`, the same with `https://`, and `unix:///path`. An IPv6 address is written in brackets.
/// As usual in HTTP, `http://host` means port 80 and `https://host` means port 443.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// HTTP or HTTPS.
    Http {
        /// `http://host:port` or `https://host:port`, optionally with the path of a proxy, without a trailing slash.
        base: String,
    },
    /// A Unix stream socket of the agent.
    Unix(PathBuf),
}

/// The text is not a valid address of Consul. The error never contains the text, because it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The text is empty.
    #[error("the address is empty; {FORMS}")]
    Empty,
    /// White space, a control character, a backslash, or a character outside ASCII.
    #[error("the address contains white space or a character that is invalid in a URL; {FORMS}")]
    Character,
    /// The scheme is not `http`, `https` or `unix`.
    #[error("the scheme `{}` is not known; {FORMS}", Escaped(.0))]
    Scheme(String),
    /// The address contains `user:password@`.
    #[error("the address contains `@`; write user and password to `auth` in [consul] or to CONSUL_HTTP_AUTH")]
    UserInfo,
    /// The address contains `?` or `#`.
    #[error("the address contains a query or a fragment; {FORMS}")]
    Query,
    /// A path without a scheme.
    #[error("the address has a path but no scheme; put http:// or https:// in front of it")]
    PathWithoutScheme,
    /// The host or the port is invalid.
    #[error("the host or the port is invalid; {FORMS}")]
    Host,
    /// The path of the Unix socket is empty or too long.
    #[error("the socket's path is empty or longer than {max} bytes; {FORMS}", max = Address::MAX_PATH)]
    SocketPath,
}

const FORMS: &str = "write host:port, http://host:port, https://host:port or unix:///path, an IPv6 address in brackets";

impl Address {
    /// The port of an address without scheme and port.
    pub const DEFAULT_PORT: u16 = 8500;
    /// Maximum length of a Unix socket's path, in bytes.
    pub const MAX_PATH: usize = 107;

    /// Whether the connection uses TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Http { base } if base.starts_with(HTTPS))
    }

    /// Returns the same address with `https://`; none for a Unix socket.
    pub(super) fn with_tls(self) -> Option<Self> {
        match self {
            Self::Unix(_) => None,
            Self::Http { base } => Some(Self::Http {
                base: base.strip_prefix(HTTP).map_or_else(|| base.clone(), |rest| format!("{HTTPS}{rest}")),
            }),
        }
    }
}

const HTTP: &str = "http://";
const HTTPS: &str = "https://";

impl Default for Address {
    /// `http://127.0.0.1:8500`.
    fn default() -> Self {
        Self::Http { base: format!("http://127.0.0.1:{}", Self::DEFAULT_PORT) }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.is_empty() {
            return Err(InvalidAddress::Empty);
        }
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("unix")) {
            return unix(rest);
        }
        // The URL parser silently drops some of these characters, and reads a backslash as a slash.
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return Err(InvalidAddress::Character);
        }
        if text.contains('@') {
            return Err(InvalidAddress::UserInfo);
        }
        if text.contains(['?', '#']) {
            return Err(InvalidAddress::Query);
        }
        let (prefix, implied_port) = match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("http") => (HTTP, false),
            Some("https") => (HTTPS, false),
            Some(_) => return Err(InvalidAddress::Scheme(scheme.unwrap_or_default().to_owned())),
            None if rest.contains('/') => return Err(InvalidAddress::PathWithoutScheme),
            None => (HTTP, !rest.rsplit(']').next().unwrap_or(rest).contains(':')),
        };
        // The URL parser accepts extra slashes, and a colon without a port.
        if rest.starts_with('/') || rest.split('/').next().is_some_and(|authority| authority.ends_with(':')) {
            return Err(InvalidAddress::Host);
        }
        let url = Url::parse(&format!("{prefix}{rest}")).map_err(|_| InvalidAddress::Host)?;
        let host = url.host_str().ok_or(InvalidAddress::Host)?;
        let port = match url.port() {
            _ if implied_port => format!(":{}", Self::DEFAULT_PORT),
            Some(0) => return Err(InvalidAddress::Host),
            Some(port) => format!(":{port}"),
            // The default port of the scheme.
            None => String::new(),
        };
        let path = url.path().trim_end_matches('/');
        Ok(Self::Http { base: format!("{prefix}{host}{port}{path}") })
    }
}

fn unix(path: &str) -> Result<Address, InvalidAddress> {
    if path.contains(char::is_control) || path.trim() != path {
        return Err(InvalidAddress::Character);
    }
    if path.is_empty() || path.len() > Address::MAX_PATH {
        return Err(InvalidAddress::SocketPath);
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { base } => f.write_str(base),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_address_forms_of_consul_are_accepted() {
        let cases = [
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("consul.example", "http://consul.example:8500"),
            ("consul:80", "http://consul"),
            ("[::1]", "http://[::1]:8500"),
            ("[::1]:8501", "http://[::1]:8501"),
            ("http://[::1]:8501", "http://[::1]:8501"),
            ("http://h:8500", "http://h:8500"),
            ("HTTP://H:8500/", "http://h:8500"),
            ("http://h", "http://h"),
            ("http://h:8500/consul/", "http://h:8500/consul"),
            ("https://h:8501", "https://h:8501"),
            ("HTTPS://h:443/", "https://h"),
            ("https://[::1]:8501/consul", "https://[::1]:8501/consul"),
            ("http://h:8500/a/b%20c", "http://h:8500/a/b%20c"),
            ("unix:///run/consul.sock", "unix:///run/consul.sock"),
            ("unix://consul.sock", "unix://consul.sock"),
        ];
        for (text, expected) in cases {
            let address: Address = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(address.to_string(), expected, "{text}");
        }
        assert_eq!("127.0.0.1:8500".parse(), Ok(Address::default()));
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        use InvalidAddress as E;
        let cases = [
            ("", E::Empty),
            ("ftp://h", E::Scheme("ftp".to_owned())),
            ("://h", E::Scheme(String::new())),
            ("http://user:secret@h", E::UserInfo),
            ("user:secret@h:8500", E::UserInfo),
            ("http://h?dc=a", E::Query),
            ("http://h/#x", E::Query),
            ("h:8500/prefix", E::PathWithoutScheme),
            (" h:8500", E::Character),
            ("h:85\n00", E::Character),
            ("http://h\\x", E::Character),
            ("http://hä", E::Character),
            ("http://", E::Host),
            ("http:///h", E::Host),
            ("h:", E::Host),
            (":8500", E::Host),
            ("h:0", E::Host),
            ("h:65536", E::Host),
            ("h:8500:1", E::Host),
            ("::1", E::Host),
            ("[::1", E::Host),
            ("unix://", E::SocketPath),
            ("unix:///a\nb", E::Character),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Address>(), Err(expected), "{text:?}");
        }
        assert_eq!(format!("unix:///{}", "x".repeat(107)).parse::<Address>(), Err(E::SocketPath));
    }

    #[test]
    fn tls_can_be_added_and_is_never_removed() {
        let with_tls = |text: &str| text.parse::<Address>().unwrap().with_tls().map(|address| address.to_string());
        assert_eq!(with_tls("h:8501").as_deref(), Some("https://h:8501"));
        assert_eq!(with_tls("http://h/p").as_deref(), Some("https://h/p"));
        assert_eq!(with_tls("https://h:8501").as_deref(), Some("https://h:8501"));
        assert_eq!(with_tls("unix:///s"), None);
        assert!("https://h".parse::<Address>().unwrap().is_tls());
        assert!(!"http://h".parse::<Address>().unwrap().is_tls() && !"unix:///s".parse::<Address>().unwrap().is_tls());
    }

    #[test]
    fn errors_contain_no_password() {
        for text in ["http://user:hunter2@h", "user:hunter2@h", "https://user:hunter2@h", "hunter2:x@y://h"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_displayed_form_parses_to_the_same_address(text in "(https?://|unix://|)[a-z0-9.:/\\[\\]%_~-]{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                let shown = address.to_string();
                prop_assert_eq!(shown.parse::<Address>(), Ok(address), "{}", shown);
            }
        }
    }
}
