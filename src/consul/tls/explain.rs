//! Maps errors of the TLS library to errors with a fix.

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

/// Facts about the handshakes of one HTTP client.
///
/// With TLS 1.3 a server rejects the client certificate after the client has started to send. A connection reset can
/// lose its alert. Then only two facts remain: the server requested a certificate, and never answered.
#[derive(Debug, Default)]
pub(in crate::consul) struct Handshake {
    certificate_requested: AtomicBool,
    has_certificate: bool,
    answered: AtomicBool,
}

impl Handshake {
    pub(super) fn new(has_certificate: bool) -> Self {
        Self { has_certificate, ..Self::default() }
    }

    /// Records an answer: the server accepted the client.
    pub(in crate::consul) fn answered(&self) {
        self.answered.store(true, Relaxed);
    }
}

/// Returns the client certificate, if there is one, and records that the server requested it.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) key: Option<Arc<CertifiedKey>>,
    pub(super) handshake: Arc<Handshake>,
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.handshake.certificate_requested.store(true, Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Returns the TLS error of a failed request; none if the request failed for another reason.
pub(in crate::consul) fn explain(error: &reqwest::Error, handshake: &Handshake) -> Option<TlsError> {
    let requested = handshake.certificate_requested.load(Relaxed);
    if let Some(error) = cause(error) {
        return Some(classify(error.clone(), requested, handshake.has_certificate));
    }
    let broke = !error.is_connect() && !error.is_timeout();
    (broke && requested && !handshake.answered.load(Relaxed)).then(|| {
        if handshake.has_certificate { TlsError::ClientCertificate(None) } else { TlsError::NoClientCertificate }
    })
}

fn classify(error: rustls::Error, requested: bool, has_certificate: bool) -> TlsError {
    use CertificateError as C;
    match &error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // A CA with the same name and another key: a renewed CA, or an impostor.
            C::UnknownIssuer | C::BadSignature => TlsError::UnknownCa(error),
            C::Expired | C::ExpiredContext { .. } => TlsError::Expired(error),
            C::NotValidYet | C::NotValidYetContext { .. } => TlsError::NotYetValid(error),
            C::NotValidForName | C::NotValidForNameContext { .. } => TlsError::WrongName(error),
            _ => TlsError::Certificate(error),
        },
        rustls::Error::AlertReceived(alert) if requested => match alert {
            // Servers use different alerts for a missing certificate.
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

/// Finds the error of the TLS library in the chain of sources. `source` skips the content of an I/O error.
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
    fn each_cause_has_its_own_message_and_remedy() {
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
        assert!(matches!(bad(CertificateError::BadSignature), TlsError::UnknownCa(_)), "another CA with the same name");
        assert!(matches!(alert(AlertDescription::CertificateRequired, false), TlsError::NoClientCertificate));
        assert!(matches!(alert(AlertDescription::UnknownCA, true), TlsError::ClientCertificate(Some(_))));
    }

    #[test]
    fn the_cause_is_found_inside_io_errors() {
        let deep = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(cause(&deep), Some(&rustls::Error::DecryptError));
        assert_eq!(cause(&io::Error::other("another")), None);
    }
}
