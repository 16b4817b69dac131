//! Loads certificates and keys from files for the TLS library.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};

use super::{
    Ca, FileError, Identity, Tls, TlsError,
    explain::{Handshake, Resolver},
};

/// Maximum size of a file with certificates, in bytes. The CAs of a machine take about a quarter of it.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads all files again. Returns the configuration for connections, and the record of their handshakes.
pub(in crate::consul) fn client_config(tls: &Tls) -> Result<(ClientConfig, Arc<Handshake>), TlsError> {
    let key = tls.identity.as_ref().map(identity).transpose()?;
    let handshake = Arc::new(Handshake::new(key.is_some()));
    let resolver = Arc::new(Resolver { key, handshake: Arc::clone(&handshake) });
    let builder = builder()?;
    let builder = if tls.verify {
        builder.with_root_certificates(roots(tls.ca.as_ref())?)
    } else {
        let unverified = Unverified(ring::default_provider());
        builder.dangerous().with_custom_certificate_verifier(Arc::new(unverified))
    };
    Ok((builder.with_client_cert_resolver(resolver), handshake))
}

/// Returns a configuration without trusted CAs, for an HTTP client that never uses TLS. Reads no file.
///
/// # Panics
/// Never: the provider supports the default versions.
pub fn without_trust() -> ClientConfig {
    let builder = builder().expect("the provider has all safe versions");
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// Returns a configuration that trusts one CA, or those of this machine, for an HTTP client of another server than Consul.
/// Reads the files of the CA.
///
/// # Errors
/// [`TlsError::File`] if they are not usable.
pub fn trusting(ca: Option<&Ca>) -> Result<ClientConfig, TlsError> {
    Ok(builder()?.with_root_certificates(roots(ca)?).with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Handshake)
}

fn roots(ca: Option<&Ca>) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    let mut trust = |path: &Path, certificates: Vec<CertificateDer<'static>>| {
        certificates
            .into_iter()
            .try_for_each(|certificate| roots.add(certificate).map_err(|_| FileError::Malformed(path.to_owned())))
    };
    match ca {
        Some(Ca::File(path)) => {
            let found = certificates(path)?;
            if found.is_empty() {
                return Err(FileError::NoCertificate(path.clone()));
            }
            trust(path, found)?;
        }
        Some(Ca::Directory(path)) => {
            for file in files(path).map_err(|source| FileError::Read { path: path.clone(), source })? {
                trust(&file, certificates(&file)?)?;
            }
            if roots.is_empty() {
                return Err(FileError::NoCertificate(path.clone()));
            }
        }
        None => {
            // Some certificates of a machine may have an unsupported type. Only a machine with no usable one is an
            // error.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(FileError::NoSystemCa);
            }
        }
    }
    Ok(roots)
}

/// Lists the files of a directory in order, without hidden files.
fn files(path: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && fs::metadata(entry.path())?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn identity(identity: &Identity) -> Result<Arc<CertifiedKey>, FileError> {
    let Identity { cert, key } = identity;
    let chain = certificates(cert)?;
    if chain.is_empty() {
        return Err(FileError::NoCertificate(cert.clone()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| FileError::NoKey(key.clone()))?;
    let both = CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => FileError::Mismatch { cert: cert.clone(), key: key.clone() },
        rustls::Error::InvalidCertificate(_) => FileError::Malformed(cert.clone()),
        _ => FileError::Key(key.clone()),
    })?;
    Ok(Arc::new(both))
}

/// Reads the certificates of a file. Ignores other PEM sections, such as keys.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, pem::Error>>()
        .map_err(|_| FileError::Malformed(path.to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// Accepts every certificate, because `verify` is explicitly false. Still checks the signature of the handshake, so
/// that the server must have the key of its certificate.
#[derive(Debug)]
struct Unverified(CryptoProvider);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
