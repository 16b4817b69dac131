//! Values that the files of several programs have: paths, addresses to listen on, names, secrets.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;
use weightd_core::model::{InvalidSegment, check_segment};

use super::{ConfigError, Place, Text, parse_duration};

/// An optional value with its position in the file.
pub type Value<T> = Option<Spanned<T>>;

/// The value that turns off an address or a socket.
pub(crate) const OFF: &str = "off";

/// Maximum length of the name of a node or a controller, in characters.
pub(crate) const MAX_NODE: usize = 128;

impl Place<'_> {
    /// Converts a value with `read`, if it is set.
    ///
    /// # Errors
    /// [`ConfigError`] with the error of `read` at the position of the value.
    pub fn read<T, E: Display>(
        &self,
        key: &str,
        value: Value<String>,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        value
            .map(|value| read(value.get_ref()).map_err(|error| self.invalid_value(key, value.span(), error)))
            .transpose()
    }

    /// Like [`Place::read`], for a secret. `E` must not show the secret.
    ///
    /// # Errors
    /// As [`Place::read`].
    pub fn secret<T, E: Display>(
        &self,
        key: &str,
        value: Value<SecretString>,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        value
            .map(|value| {
                read(value.get_ref().expose_secret()).map_err(|error| self.invalid_value(key, value.span(), error))
            })
            .transpose()
    }

    /// Parses a duration within `range`, if it is set.
    ///
    /// # Errors
    /// [`ConfigError`] for a text that is no duration, or one outside `range`.
    pub fn duration(
        &self,
        key: &str,
        value: Value<Text>,
        range: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, ConfigError> {
        value
            .map(|value| {
                parse_duration(&value.get_ref().0, range).map_err(|error| self.invalid_value(key, value.span(), error))
            })
            .transpose()
    }
}

/// Returns `text`, if it is a name of at most `max` characters of `[A-Za-z0-9_.-]`.
pub(crate) fn name(text: &str, max: usize) -> Result<String, InvalidSegment> {
    check_segment(text, max)?;
    Ok(text.to_owned())
}

/// Returns the host name of this machine as the default of `key`. It comes from the kernel and not from /proc/sys, which a
/// hardened unit hides.
pub(crate) fn host_name(key: &'static str) -> Result<String, ConfigError> {
    let system = rustix::system::uname();
    name(&system.nodename().to_string_lossy(), MAX_NODE)
        .map_err(|error| ConfigError::HostName { problem: error.to_string(), key })
}

/// Parses an absolute path.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    if text.contains(char::is_control) {
        return Err("the path contains a control character; remove it");
    }
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("the path is relative; write an absolute path") }
}

/// Parses an address to listen on, such as `example`; none for "off". An address that other machines can reach needs
/// `allow_remote`.
pub(crate) fn listen_address(
    text: &str,
    allow_remote: bool,
    example: SocketAddr,
) -> Result<Option<SocketAddr>, String> {
    if text == OFF {
        return Ok(None);
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!(r#"not an IP address with a port; write for example "{example}", or "{OFF}""#))?;
    if !allow_remote && !is_loopback(address) {
        let what = "other machines can reach this address; write a loopback address, or set allow_remote = true";
        return Err(what.to_owned());
    }
    Ok(Some(address))
}

/// Whether only this machine can reach the address.
pub(crate) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
