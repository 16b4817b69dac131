//! From what the TLS library says to what a person can act on.

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rustls::{AlertDescription, CertificateError, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

use super::TlsError;

/// What the handshakes of one HTTP client have shown.
///
/// With TLS 1.3 a server refuses the client's certificate after the client has begun to send: its alert may
/// be lost when the connection is reset. What remains is that it asked, and that nothing ever came back.
#[derive(Debug, Default)]
pub(in crate::consul) struct Handshake {
    asked: AtomicBool,
    has_certificate: bool,
    answered: AtomicBool,
}

impl Handshake {
    pub(super) fn new(has_certificate: bool) -> Self {
        Self { has_certificate, ..Self::default() }
    }

    /// An answer came: whatever was asked was settled.
    pub(in crate::consul) fn answered(&self) {
        self.answered.store(true, Relaxed);
    }
}

/// Gives the client certificate, if there is one, and remembers that it was asked for.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) key: Option<Arc<CertifiedKey>>,
    pub(super) handshake: Arc<Handshake>,
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.handshake.asked.store(true, Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// What of a failed request is TLS's; none if it failed for another reason.
pub(in crate::consul) fn explain(error: &reqwest::Error, handshake: &Handshake) -> Option<TlsError> {
    let asked = handshake.asked.load(Relaxed);
    if let Some(error) = cause(error) {
        return Some(classify(error.clone(), asked, handshake.has_certificate));
    }
    let broke = !error.is_connect() && !error.is_timeout();
    (broke && asked && !handshake.answered.load(Relaxed)).then(|| {
        if handshake.has_certificate { TlsError::ClientCertificate(None) } else { TlsError::NoClientCertificate }
    })
}

fn classify(error: rustls::Error, asked: bool, has_certificate: bool) -> TlsError {
    use CertificateError as C;
    match &error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // A CA of the same name with another key: a renewed one, or an impostor.
            C::UnknownIssuer | C::BadSignature => TlsError::UnknownCa(error),
            C::Expired | C::ExpiredContext { .. } => TlsError::Expired(error),
            C::NotValidYet | C::NotValidYetContext { .. } => TlsError::NotYetValid(error),
            C::NotValidForName | C::NotValidForNameContext { .. } => TlsError::WrongName(error),
            _ => TlsError::Certificate(error),
        },
        rustls::Error::AlertReceived(alert) if asked => match alert {
            // Servers differ in what they call it.
            _ if !has_certificate => TlsError::NoClientCertificate,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => TlsError::ClientCertificate(Some(error)),
            _ => TlsError::Handshake(error),
        },
        rustls::Error::InvalidMessage(_) => TlsError::NotTls(error),
        _ => TlsError::Handshake(error),
    }
}

/// The TLS library's error, however deep it lies: an I/O error hides it from `source`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| cause(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_words_and_remedy() {
        let bad = |error| classify(rustls::Error::InvalidCertificate(error), false, false);
        let alert = |alert, certificate| classify(rustls::Error::AlertReceived(alert), true, certificate);
        let all = [
            bad(CertificateError::UnknownIssuer),
            bad(CertificateError::Expired),
            bad(CertificateError::NotValidYet),
            bad(CertificateError::NotValidForName),
            bad(CertificateError::BadEncoding),
            alert(AlertDescription::BadCertificate, false),
            alert(AlertDescription::BadCertificate, true),
            classify(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), false, false),
            classify(rustls::Error::General(String::new()), false, false),
        ];
        for (number, error) in all.iter().enumerate() {
            for other in &all[..number] {
                assert_ne!(error.to_string(), other.to_string());
                assert_ne!(error.remedy(), other.remedy());
            }
        }
        assert!(matches!(bad(CertificateError::BadSignature), TlsError::UnknownCa(_)), "another CA of the same name");
        assert!(matches!(alert(AlertDescription::CertificateRequired, false), TlsError::NoClientCertificate));
        assert!(matches!(alert(AlertDescription::UnknownCA, true), TlsError::ClientCertificate(Some(_))));
    }

    #[test]
    fn it_is_found_below_errors_of_io() {
        let deep = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(cause(&deep), Some(&rustls::Error::DecryptError));
        assert_eq!(cause(&io::Error::other("another")), None);
    }
}
