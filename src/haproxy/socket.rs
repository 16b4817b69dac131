//! One line, one connection, one deadline.
//!
//! A connection that is held pins the old worker after a reload and is answered by it, as if all were well;
//! so none is. A connection that succeeds proves nothing either: a stopped process still has its backlog.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt as _, net},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{Address, command::Line, reply::BadReply};

/// The most bytes an answer may have: 10,000 servers are 750 KB.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;

/// Why there was no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// There is nothing at that path.
    #[error("there is no socket at {0}")]
    NoSocket(Address),
    /// What is at that path is no socket.
    #[error("{0} is not a socket")]
    NotASocket(Address),
    /// This user may not connect.
    #[error("no permission to connect to {0}")]
    Permission(Address),
    /// Nobody listens.
    #[error("nobody listens at {0}")]
    Refused(Address),
    /// More connections wait than the system lets wait.
    #[error("{0} takes no more connections")]
    Busy(Address),
    /// No full answer within the deadline.
    #[error("{0} did not answer within {took}", took = humane(*.1))]
    Timeout(Address, Duration),
    /// Anything else the system reports.
    #[error("the exchange with {address} failed")]
    Io {
        /// Whom with.
        address: Address,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// More than [`MAX_REPLY`] bytes.
    #[error("{0} answered more than {MAX_REPLY} bytes")]
    TooLarge(Address),
    /// Not what HAProxy answers.
    #[error("{address} does not answer like HAProxy")]
    BadReply {
        /// Whom with.
        address: Address,
        /// What is wrong.
        #[source]
        source: BadReply,
    },
}

fn humane(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f32())
}

impl ExchangeError {
    /// A short word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSocket(_) => "no_socket",
            Self::NotASocket(_) => "not_a_socket",
            Self::Permission(_) => "permission_denied",
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Timeout(..) => "timeout",
            Self::Io { .. } => "io",
            Self::TooLarge(_) => "too_large",
            Self::BadReply { .. } => "not_haproxy",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoSocket(_) => {
                "start HAProxy, and check `stats socket` in haproxy.cfg against `address` in [[haproxy]]"
            }
            Self::NotASocket(_) => "set `address` in [[haproxy]] to the path of `stats socket` in haproxy.cfg itself",
            Self::Permission(_) => {
                "put weightd's user into the socket's group, such as `stats socket … mode 660 group haproxy level admin`"
            }
            Self::Refused(_) => "start HAProxy; a socket file stays behind when it ends",
            Self::Busy(_) | Self::Timeout(..) => {
                "see whether HAProxy hangs, or other clients use up its `stats maxconn`, 10 unless set"
            }
            Self::Io { .. } => "see the error; it is tried again",
            Self::TooLarge(_) | Self::BadReply { .. } => {
                "check that `address` in [[haproxy]] is a `stats socket` of HAProxy and not its master socket or another program"
            }
        }
    }
}

/// Sends `line` on a connection of its own and reads what comes until the other side closes.
///
/// # Errors
/// [`ExchangeError`]. Then it is not known what of the line ran; only reading back tells.
pub async fn exchange(address: &Address, line: &Line, deadline: Duration) -> Result<String, ExchangeError> {
    match timeout(deadline, connect_and_talk(address, line)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ExchangeError::Timeout(address.clone(), deadline)),
    }
}

async fn connect_and_talk(address: &Address, line: &Line) -> Result<String, ExchangeError> {
    match address {
        Address::Unix(path) => {
            check_file(address, path)?;
            talk_over(path, address, line).await
        }
        Address::Abstract { name, padded } => talk_over(&abstract_path(name, *padded), address, line).await,
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| failed(address, e))?;
            talk(stream, address, line.wire().as_bytes()).await
        }
    }
}

async fn talk_over(path: &Path, address: &Address, line: &Line) -> Result<String, ExchangeError> {
    let wire = line.wire();
    let (stream, sent) = connect_and_send(path, wire.as_bytes()).map_err(|e| failed(address, e))?;
    talk(stream, address, &wire.as_bytes()[sent..]).await
}

/// A name in the abstract namespace as the system takes it: behind a NUL byte. HAProxy binds `abns@` with all 108 bytes of
/// `sun_path`.
fn abstract_path(name: &str, padded: bool) -> PathBuf {
    let mut bytes = vec![0];
    bytes.extend_from_slice(name.as_bytes());
    if padded {
        bytes.resize(Address::MAX_PATH + 1, 0);
    }
    OsString::from_vec(bytes).into()
}

/// Connects and sends what can be sent at once, which is nearly always all: a Unix socket connects at once or not at
/// all, so there is nothing to wait for before the answer. Returns how many bytes are sent.
fn connect_and_send(path: &Path, line: &[u8]) -> io::Result<(UnixStream, usize)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    let mut stream = net::UnixStream::from(OwnedFd::from(socket));
    let sent = match stream.write(line) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    if sent == line.len() {
        stream.shutdown(Shutdown::Write)?;
    }
    Ok((UnixStream::from_std(stream)?, sent))
}

/// A connect to something else than a socket says `Connection refused`, which sends people looking in the
/// wrong place. A symbolic link is not followed: who may write the folder could point it anywhere.
fn check_file(address: &Address, path: &Path) -> Result<(), ExchangeError> {
    use std::os::unix::fs::FileTypeExt as _;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(ExchangeError::NotASocket(address.clone())),
        Err(error) => Err(failed(address, error)),
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    address: &Address,
    unsent: &[u8],
) -> Result<String, ExchangeError> {
    if !unsent.is_empty() {
        // One write: HAProxy 3.x runs only the first line it finds, and a line must come with its LF.
        stream.write_all(unsent).await.map_err(|e| failed(address, e))?;
        stream.shutdown().await.map_err(|e| failed(address, e))?;
    }
    let mut reply = Vec::with_capacity(2048);
    loop {
        let read = stream.read_buf(&mut reply).await.map_err(|e| failed(address, e))?;
        if read == 0 {
            break;
        }
        if reply.len() > MAX_REPLY {
            return Err(ExchangeError::TooLarge(address.clone()));
        }
    }
    // HAProxy passes on what its configuration holds, which need not be UTF-8 outside names and numbers.
    Ok(String::from_utf8(reply).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn failed(address: &Address, error: io::Error) -> ExchangeError {
    match error.kind() {
        io::ErrorKind::NotFound => ExchangeError::NoSocket(address.clone()),
        io::ErrorKind::PermissionDenied => ExchangeError::Permission(address.clone()),
        io::ErrorKind::ConnectionRefused => ExchangeError::Refused(address.clone()),
        // What a connect to a Unix socket says whose queue is full.
        io::ErrorKind::WouldBlock => ExchangeError::Busy(address.clone()),
        _ => ExchangeError::Io { address: address.clone(), source: error },
    }
}
