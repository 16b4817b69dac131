//! Sends one line per connection, with one deadline.
//!
//! Connections are never kept open: after a reload the old worker would keep running and keep answering. A successful
//! connect proves nothing, because the kernel accepts connections for a stopped process.

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

/// Maximum size of an answer, in bytes. 10,000 servers take about 750 KB.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;

/// HAProxy gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The path of the socket does not exist.
    #[error("there is no socket at {0}")]
    NoSocket(Address),
    /// The path is not a socket.
    #[error("{0} is not a socket")]
    NotASocket(Address),
    /// This user has no permission to connect.
    #[error("no permission to connect to {0}")]
    Permission(Address),
    /// The connection is refused: no process listens.
    #[error("no process listens at {0}")]
    Refused(Address),
    /// The queue of pending connections is full.
    #[error("{0} accepts no more connections: its queue is full")]
    Busy(Address),
    /// No complete answer within the deadline.
    #[error("{0} did not answer within {deadline}", deadline = in_seconds(*.1))]
    Timeout(Address, Duration),
    /// Any other error of the operating system.
    #[error("the exchange with {address} failed")]
    Io {
        /// The address of the runtime API.
        address: Address,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The answer is larger than [`MAX_REPLY`] bytes.
    #[error("the answer of {0} is larger than {MAX_REPLY} bytes")]
    TooLarge(Address),
    /// The answer does not have the format of HAProxy.
    #[error("the answer of {address} does not have the format of HAProxy")]
    BadReply {
        /// The address of the runtime API.
        address: Address,
        /// The problem.
        #[source]
        source: BadReply,
    },
}

fn in_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f32())
}

impl ExchangeError {
    /// Returns the stable reason code for status and metrics.
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

    /// Returns the fix, for hints.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoSocket(_) => {
                "start HAProxy, and check that `address` in [[haproxy]] is the path of `stats socket` in haproxy.cfg"
            }
            Self::NotASocket(_) => {
                "set `address` in [[haproxy]] to the path of `stats socket` in haproxy.cfg; symbolic links are not followed"
            }
            Self::Permission(_) => {
                "add the user of weightd to the group of the socket, as in `stats socket … mode 660 group haproxy level admin`"
            }
            Self::Refused(_) => "start HAProxy; the socket file exists, but no process uses it",
            Self::Busy(_) | Self::Timeout(..) => {
                "check whether HAProxy hangs, or whether other clients use all connections of `stats maxconn` (default 10)"
            }
            Self::Io { .. } => "check the error; weightd tries again",
            Self::TooLarge(_) | Self::BadReply { .. } => {
                "check that `address` in [[haproxy]] is a `stats socket` of HAProxy, not its master socket and not another program"
            }
        }
    }
}

/// Sends `line` on a new connection and reads the answer until HAProxy closes the connection.
///
/// # Errors
/// [`ExchangeError`]. It is then unknown which commands ran. Read the weights to find out.
pub async fn exchange(address: &Address, line: &Line, deadline: Duration) -> Result<String, ExchangeError> {
    match timeout(deadline, connect_and_exchange(address, line)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ExchangeError::Timeout(address.clone(), deadline)),
    }
}

async fn connect_and_exchange(address: &Address, line: &Line) -> Result<String, ExchangeError> {
    match address {
        Address::Unix(path) => {
            check_file(address, path)?;
            exchange_over_unix(path, address, line).await
        }
        Address::Abstract { name, padded } => exchange_over_unix(&abstract_path(name, *padded), address, line).await,
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| failed(address, e))?;
            send_and_receive(stream, address, line.wire().as_bytes()).await
        }
    }
}

async fn exchange_over_unix(path: &Path, address: &Address, line: &Line) -> Result<String, ExchangeError> {
    let wire = line.wire();
    let (stream, sent) = connect_and_send(path, wire.as_bytes()).map_err(|e| failed(address, e))?;
    send_and_receive(stream, address, &wire.as_bytes()[sent..]).await
}

/// Returns the path that the system uses for a name in the abstract namespace: a NUL byte, then the name. HAProxy binds
/// `abns@` with all 108 bytes of `sun_path`.
fn abstract_path(name: &str, padded: bool) -> PathBuf {
    let mut bytes = vec![0];
    bytes.extend_from_slice(name.as_bytes());
    if padded {
        bytes.resize(Address::MAX_PATH + 1, 0);
    }
    OsString::from_vec(bytes).into()
}

/// Connects, and sends without blocking. A Unix socket connects at once or fails, so nearly always the whole line is
/// sent here. Returns the number of sent bytes.
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

/// Checks that `path` is a socket. A connect to another file gives a misleading `Connection refused`. Symbolic links
/// are not followed: any user with write permission in the directory could redirect the link.
fn check_file(address: &Address, path: &Path) -> Result<(), ExchangeError> {
    use std::os::unix::fs::FileTypeExt as _;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(ExchangeError::NotASocket(address.clone())),
        Err(error) => Err(failed(address, error)),
    }
}

async fn send_and_receive<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    address: &Address,
    unsent: &[u8],
) -> Result<String, ExchangeError> {
    if !unsent.is_empty() {
        // One write for the whole line: HAProxy 3.x runs only the first line that it finds, and it must end with LF.
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
    // HAProxy copies text of its configuration into answers. Only names and numbers are certainly UTF-8.
    Ok(String::from_utf8(reply).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn failed(address: &Address, error: io::Error) -> ExchangeError {
    match error.kind() {
        io::ErrorKind::NotFound => ExchangeError::NoSocket(address.clone()),
        io::ErrorKind::PermissionDenied => ExchangeError::Permission(address.clone()),
        io::ErrorKind::ConnectionRefused => ExchangeError::Refused(address.clone()),
        // A connect to a Unix socket with a full queue returns `WouldBlock`.
        io::ErrorKind::WouldBlock => ExchangeError::Busy(address.clone()),
        _ => ExchangeError::Io { address: address.clone(), source: error },
    }
}
