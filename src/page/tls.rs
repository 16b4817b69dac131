//! The listener with TLS. The handshake is a part of the connection, so a slow one keeps nobody else waiting.

use std::{
    fs, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, bail};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

use crate::{
    base::serve::{Listen, Peer},
    rolloutd::config::PageTls,
};

/// Reads the certificate and its key.
///
/// # Errors
/// The file, and what is wrong with it.
pub fn read(files: &PageTls) -> anyhow::Result<Arc<ServerConfig>> {
    let PageTls { cert_file, key_file } = files;
    let text = fs::read(cert_file).with_context(|| format!("failed to read {}", cert_file.display()))?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{} is not a PEM file of certificates", cert_file.display()))?;
    if certificates.is_empty() {
        bail!("{} has no certificate", cert_file.display());
    }
    let text = fs::read(key_file).with_context(|| format!("failed to read {}", key_file.display()))?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .with_context(|| format!("{} is not a PEM file of a private key", key_file.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("the key in {} does not fit the certificate", key_file.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A listener for TLS.
pub struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsListener").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl TlsListener {
    /// Accepts TLS on `tcp`.
    pub fn new(tcp: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self { tcp, acceptor: config.into() }
    }
}

impl Listen for TlsListener {
    type Stream = Tls;

    async fn accept(&self) -> io::Result<(Tls, Peer)> {
        let (stream, from) = self.tcp.accept().await?;
        let accept = self.acceptor.accept(stream);
        Ok((Tls::Handshake(Box::new(accept)), Peer { uid: None, address: Some(from.ip()) }))
    }
}

/// A connection: first the handshake, then the data.
pub enum Tls {
    /// The handshake.
    Handshake(Box<Accept<TcpStream>>),
    /// The data.
    Open(Box<TlsStream<TcpStream>>),
    /// The handshake failed. It must not be polled again: that panics.
    Failed,
}

impl Tls {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        if let Self::Handshake(accept) = self {
            match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                Ok(stream) => *self = Self::Open(Box::new(stream)),
                Err(error) => {
                    *self = Self::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        match self {
            Self::Open(stream) => Poll::Ready(Ok(Pin::new(stream.as_mut()))),
            Self::Handshake(_) => Poll::Pending,
            // The server flushes and writes also after a read failed.
            Self::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Tls {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            // There is nothing to end.
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
            Self::Open(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn config() -> Arc<ServerConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        fs::write(path("cert"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        read(&PageTls { cert_file: path("cert"), key_file: path("key") }).unwrap()
    }

    #[tokio::test]
    async fn a_failed_handshake_stays_failed() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let listener = TlsListener::new(tcp, config());
        for sent in ["", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(sent.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 16]).await.is_err(), "{sent}");
            // What hyper does after that.
            assert!(stream.flush().await.is_err(), "{sent}");
            assert!(stream.write(b"x").await.is_err(), "{sent}");
            assert!(stream.read(&mut [0; 16]).await.is_err(), "{sent}");
            stream.shutdown().await.unwrap();
        }
    }
}
