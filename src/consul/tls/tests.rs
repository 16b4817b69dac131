use std::fs;

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A self-signed certificate and its key.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn refused(tls: &Tls) -> String {
    match client_config(tls) {
        Ok(_) => panic!("accepted: {tls:?}"),
        Err(error) => {
            assert!(error.is_local(), "{error:?}");
            error.to_string()
        }
    }
}

#[test]
fn an_unusable_file_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let with = |ca| Tls { ca: Some(ca), ..Tls::default() };
    let file = || with(Ca::File(path.clone()));
    let shown = |what: &str| what.replace("PATH", &path.display().to_string());
    assert!(refused(&file()).starts_with(&shown("failed to read PATH: ")));
    fs::write(&path, "").unwrap();
    assert_eq!(refused(&file()), shown("PATH contains no certificate"));
    fs::write(&path, pair().1).unwrap();
    assert_eq!(refused(&file()), shown("PATH contains no certificate"));
    fs::write(&path, "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n").unwrap();
    assert_eq!(refused(&file()), shown("PATH contains an invalid PEM certificate"));
    fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert_eq!(refused(&file()), shown("PATH contains an invalid PEM certificate"));
    fs::write(&path, "#".repeat(2 << 20)).unwrap();
    assert_eq!(refused(&file()), shown("PATH is larger than 1 MiB"));
    fs::write(&path, pair().0).unwrap();
    assert!(client_config(&file()).is_ok());
}

#[test]
fn the_files_of_a_directory_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls { ca: Some(Ca::Directory(dir.path().to_owned())), ..Tls::default() };
    fs::write(dir.path().join("README"), "no certificate").unwrap();
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::write(dir.path().join("below/ca.pem"), pair().0).unwrap();
    fs::write(dir.path().join(".hidden.pem"), pair().0).unwrap();
    assert!(refused(&tls).ends_with(" contains no certificate"));
    fs::write(dir.path().join("ca.0"), pair().0).unwrap();
    assert!(client_config(&tls).is_ok());
}

#[test]
fn the_key_must_match_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let tls =
        Tls { identity: Some(Identity { cert: cert.clone(), key: key.clone() }), verify: false, ..Tls::default() };
    let (own, other) = (pair(), pair());
    fs::write(&cert, &own.0).unwrap();
    fs::write(&key, "").unwrap();
    assert!(refused(&tls).contains(" contains no private key"));
    fs::write(&key, &other.1).unwrap();
    let error = refused(&tls);
    assert!(error.contains("does not match the certificate in") && !error.contains("BEGIN"), "{error}");
    fs::write(&key, &own.1).unwrap();
    assert!(client_config(&tls).is_ok());
    fs::write(&cert, format!("{}{}", own.1, own.0)).unwrap();
    assert!(client_config(&Tls { identity: Some(Identity { cert: cert.clone(), key: cert }), ..tls }).is_ok());
}

#[test]
fn a_server_name_must_be_a_host_name() {
    assert_eq!(server_name("server.dc1.consul").as_deref(), Ok("server.dc1.consul"));
    for wrong in ["", "a b", "a/b", "10.0.0.1", "::1", "a:1", "*.consul", "a@b"] {
        assert!(server_name(wrong).is_err(), "{wrong:?}");
    }
}
