//! The address of HAProxy's runtime API.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

/// The address of the runtime API of one HAProxy.
///
/// The text forms are `unix:/path`, `unix:///path`, `/path`, `abns@name`, `abnsz@name` and `tcp:host:port`. An IPv6
/// address is written in brackets. Different spellings of an address compare equal: doubled slashes, `.` segments, the
/// letter case of a host, forms of an IP address. Symbolic links are not resolved, so they compare different.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix stream socket: an absolute path of at most [`Address::MAX_PATH`] bytes.
    Unix(PathBuf),
    /// A name in the abstract namespace of Unix sockets, as in `stats socket abns@name`.
    Abstract {
        /// 1 to [`Address::MAX_PATH`] characters.
        name: String,
        /// Whether HAProxy pads the address with NUL bytes: yes for `abns@`, no for `abnsz@` (3.2 and later).
        padded: bool,
    },
    /// A TCP port.
    Tcp {
        /// A host name, or an IP address without brackets.
        host: String,
        /// 1..=65535.
        port: u16,
    },
}

/// The text is not a valid address of a runtime API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The text has none of the known forms.
    #[error("not an address of HAProxy's runtime API; write unix:/path, abns@name or tcp:host:port")]
    Form,
    /// The name in the abstract namespace is empty, too long, or not visible ASCII.
    #[error("the name after abns@ must have 1 to {max} visible ASCII characters", max = Address::MAX_PATH)]
    AbstractName,
    /// The path of the Unix socket does not start with a slash.
    #[error("the socket's path is relative; write an absolute path, as in unix:/run/haproxy/admin.sock")]
    Relative,
    /// The path of the Unix socket is longer than the system allows. The value is its length in bytes.
    #[error("the socket's path has {0} bytes, more than the {max} a Unix socket can have", max = Address::MAX_PATH)]
    PathTooLong(usize),
    /// White space at the start or end, or a control character.
    #[error("the address contains white space or a control character; remove it")]
    Character,
    /// The host is neither a host name nor an IP address.
    #[error("the host is neither a name nor an IP address; write tcp:host:port, an IPv6 address in brackets")]
    Host,
    /// The port is missing, zero or above 65535.
    #[error("the port is missing or not a number from 1 to 65535; write tcp:host:port")]
    Port,
}

impl Address {
    /// Maximum length of a Unix socket's path in bytes: `sun_path` has 108 bytes with the final NUL.
    pub const MAX_PATH: usize = 107;

    /// Whether only this machine can reach the address: a Unix socket, `localhost`, 127.0.0.0/8 or `::1`.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Abstract { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
            }
        }
    }

    fn unix(path: &str) -> Result<Self, InvalidAddress> {
        if !path.starts_with('/') {
            return Err(InvalidAddress::Relative);
        }
        // `components` drops doubled slashes and `.` segments.
        let path: PathBuf = Path::new(path).components().collect();
        let len = path.as_os_str().len();
        if len > Self::MAX_PATH {
            return Err(InvalidAddress::PathTooLong(len));
        }
        if path.file_name().is_none() {
            return Err(InvalidAddress::Form);
        }
        Ok(Self::Unix(path))
    }

    fn abstract_name(name: &str, padded: bool) -> Result<Self, InvalidAddress> {
        if name.is_empty() || name.len() > Self::MAX_PATH || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidAddress::AbstractName);
        }
        Ok(Self::Abstract { name: name.to_owned(), padded })
    }

    fn tcp(text: &str) -> Result<Self, InvalidAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress::Port)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or(InvalidAddress::Port)?;
        let host = if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inner.parse::<Ipv6Addr>().map_err(|_| InvalidAddress::Host)?.to_string()
        } else if !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        {
            host.to_ascii_lowercase()
        } else {
            return Err(InvalidAddress::Host);
        };
        Ok(Self::Tcp { host, port })
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.trim() != text || text.contains(char::is_control) {
            return Err(InvalidAddress::Character);
        }
        if let Some(name) = text.strip_prefix("abns@") {
            return Self::abstract_name(name, true);
        }
        if let Some(name) = text.strip_prefix("abnsz@") {
            return Self::abstract_name(name, false);
        }
        // haproxy.cfg writes addresses with `@`.
        if let Some(path) = text.strip_prefix("unix@") {
            return Self::unix(path);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path.strip_prefix("//").unwrap_or(path));
        }
        if let Some(rest) = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")) {
            return Self::tcp(rest);
        }
        if let Some(rest) = text.strip_prefix("tcp:") {
            return Self::tcp(rest.strip_prefix("//").unwrap_or(rest));
        }
        if text.starts_with('/') { Self::unix(text) } else { Err(InvalidAddress::Form) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract { name, padded } => write!(f, "{}@{name}", if *padded { "abns" } else { "abnsz" }),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Address>().unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
    }

    #[test]
    fn every_spelling_of_a_socket_is_one_address() {
        for text in ["unix:/run/a.sock", "unix:///run/a.sock", "/run/a.sock", "//run//./a.sock", "unix:////run/a.sock"]
        {
            assert_eq!(canonical(text), "unix:/run/a.sock", "{text}");
        }
        assert_eq!(canonical("/run/with space.sock"), "unix:/run/with space.sock");
        assert_eq!(canonical("tcp:LocalHost:9999"), "tcp:localhost:9999");
        assert_eq!(canonical("tcp:[0:0::1]:9999"), "tcp:[::1]:9999");
        assert_eq!(canonical("tcp://10.0.0.1:9999"), "tcp:10.0.0.1:9999");
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        use InvalidAddress as E;
        let cases = [
            ("", E::Form),
            ("haproxy:9999", E::Form),
            ("http://h:1", E::Form),
            ("fd@3", E::Form),
            ("abns@", E::AbstractName),
            ("abns@a b", E::AbstractName),
            ("unix:/", E::Form),
            ("unix:", E::Relative),
            ("unix:run/a.sock", E::Relative),
            ("unix:abns@haproxy", E::Relative),
            (" /run/a.sock", E::Character),
            ("/run/a\n.sock", E::Character),
            ("/run/a\0.sock", E::Character),
            ("tcp:h", E::Port),
            ("tcp:h:", E::Port),
            ("tcp:h:0", E::Port),
            ("tcp:h:65536", E::Port),
            ("tcp:h:+1", E::Port),
            ("tcp::1", E::Host),
            ("tcp:::1:9999", E::Host),
            ("tcp:[h]:9999", E::Host),
            ("tcp:[::1:9999", E::Host),
            ("tcp:a b:9999", E::Host),
            ("tcp:a/b:9999", E::Host),
            ("tcp:u@h:9999", E::Host),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Address>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_path_has_at_most_107_bytes() {
        let path = |len: usize| format!("unix:/{}", "x".repeat(len - 1));
        assert!(path(107).parse::<Address>().is_ok());
        assert_eq!(path(108).parse::<Address>(), Err(InvalidAddress::PathTooLong(108)));
    }

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        for near in [
            "/run/a",
            "tcp:localhost:1",
            "tcp:127.0.0.1:1",
            "tcp:127.9.9.9:1",
            "tcp:[::1]:1",
            "tcp:[::ffff:127.0.0.1]:1",
        ] {
            assert!(near.parse::<Address>().unwrap().is_loopback(), "{near}");
        }
        for far in [
            "tcp:10.0.0.1:1",
            "tcp:haproxy:1",
            "tcp:[::]:1",
            "tcp:0.0.0.0:1",
            "tcp:localhost.example:1",
            "tcp:127.example:1",
        ] {
            assert!(!far.parse::<Address>().unwrap().is_loopback(), "{far}");
        }
    }

    proptest! {
        #[test]
        fn the_displayed_form_parses_to_the_same_address(text in "(unix:|tcp:|/|)[a-z0-9./:\\[\\]_-]{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
