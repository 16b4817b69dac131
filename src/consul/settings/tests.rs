use secrecy::ExposeSecret as _;

use super::*;

/// An environment with only these variables.
fn env<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn settings(variables: &[(&str, &str)]) -> Result<Settings, InvalidSettings> {
    Settings::from_env(&env(variables), Layer::default())
}

fn variable(variables: &[(&str, &str)]) -> InvalidVariable {
    match settings(variables) {
        Err(InvalidSettings::Variable(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_is_the_agent_on_this_machine() {
    let expected = Settings::default();
    assert_eq!(settings(&[]).unwrap(), expected);
    assert_eq!(
        settings(&[("CONSUL_HTTP_ADDR", ""), ("CONSUL_CACERT", ""), ("CONSUL_HTTP_SSL", "")]).unwrap(),
        expected
    );
    assert_eq!(expected.address.to_string(), "http://127.0.0.1:8500");
}

#[test]
fn all_variables_are_read() {
    let settings = settings(&[
        ("CONSUL_HTTP_ADDR", "unix:///run/consul.sock"),
        ("CONSUL_HTTP_TOKEN", " abc\n"),
        ("CONSUL_HTTP_AUTH", "user:pass word"),
        ("CONSUL_NAMESPACE", "team-a"),
        ("CONSUL_PARTITION", "edge"),
        ("CONSUL_HTTP_SSL", "F"),
    ])
    .unwrap();
    assert_eq!(settings.address, Address::Unix("/run/consul.sock".into()));
    assert_eq!(settings.token.read().unwrap().unwrap().expose_secret(), "abc");
    assert_eq!(settings.auth.as_ref().unwrap().expose_secret(), "user:pass word");
    assert_eq!(settings.namespace.as_deref(), Some("team-a"));
    assert_eq!(settings.partition.as_deref(), Some("edge"));
}

#[test]
fn a_token_file_overrides_a_token() {
    let settings = settings(&[("CONSUL_HTTP_TOKEN", "abc"), ("CONSUL_HTTP_TOKEN_FILE", "/t")]).unwrap();
    assert_eq!(settings.token, TokenSource::File("/t".into()));
}

#[test]
fn flags_override_the_environment_even_if_it_is_invalid() {
    let flags =
        Layer { address: Some("consul:1".parse().unwrap()), namespace: Some("a".to_owned()), ..Layer::default() };
    let variables = [("CONSUL_HTTP_ADDR", "ftp://h"), ("CONSUL_NAMESPACE", "b c"), ("CONSUL_PARTITION", "p")];
    let settings = Settings::from_env(&env(&variables), flags).unwrap();
    assert_eq!(settings.address.to_string(), "http://consul:1");
    assert_eq!(settings.namespace.as_deref(), Some("a"));
    assert_eq!(settings.partition.as_deref(), Some("p"));
}

#[test]
fn tls_settings_are_read_from_the_variables() {
    let all = [
        ("CONSUL_HTTP_ADDR", "consul:8501"),
        ("CONSUL_HTTP_SSL", "1"),
        ("CONSUL_HTTP_SSL_VERIFY", "f"),
        ("CONSUL_CACERT", "/ca.pem"),
        ("CONSUL_CAPATH", "/ca"),
        ("CONSUL_CLIENT_CERT", "/cert.pem"),
        ("CONSUL_CLIENT_KEY", "/key.pem"),
        ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
    ];
    let identity = Some(tls::Identity { cert: "/cert.pem".into(), key: "/key.pem".into() });
    let expected = Tls {
        ca: Some(Ca::File("/ca.pem".into())),
        identity,
        server_name: Some("server.dc1.consul".to_owned()),
        verify: false,
    };
    let found = settings(&all).unwrap();
    assert_eq!((found.address.to_string().as_str(), found.tls), ("https://consul:8501", expected));

    let found = settings(&[("CONSUL_HTTP_ADDR", "https://h"), ("CONSUL_CAPATH", "/ca")]).unwrap();
    assert_eq!(found.tls, Tls { ca: Some(Ca::Directory("/ca".into())), ..Tls::default() });
    assert!(found.tls.verify && found.address.is_tls());
}

#[test]
fn no_setting_disables_tls() {
    // Neither a flag nor an address without TLS, as in Consul's own programs.
    for address in ["http://h:8501", "h:8501", "https://h:8501"] {
        let flags = Layer { address: Some(address.parse().unwrap()), ..Layer::default() };
        let found = Settings::from_env(&env(&[("CONSUL_HTTP_SSL", "true")]), flags).unwrap();
        assert_eq!(found.address.to_string(), "https://h:8501");
    }
    assert!(settings(&[("CONSUL_HTTP_ADDR", "https://h"), ("CONSUL_HTTP_SSL", "0")]).unwrap().address.is_tls());
}

#[test]
fn tls_settings_with_an_unencrypted_address_are_an_error() {
    for variable in [
        ("CONSUL_CACERT", "/ca.pem"),
        ("CONSUL_CAPATH", "/ca"),
        ("CONSUL_TLS_SERVER_NAME", "n.example"),
        ("CONSUL_HTTP_SSL_VERIFY", "false"),
    ] {
        let error = settings(&[variable]).unwrap_err();
        assert!(matches!(error, InvalidSettings::Contradiction(Contradiction::NotEncrypted(_))), "{error}");
        // A Unix socket needs no TLS, so the variables are ignored.
        assert!(settings(&[variable, ("CONSUL_HTTP_ADDR", "unix:///s")]).is_ok());
    }
    assert!(settings(&[("CONSUL_HTTP_SSL_VERIFY", "true")]).is_ok());
    let error = settings(&[("CONSUL_HTTP_ADDR", "unix:///s"), ("CONSUL_HTTP_SSL", "true")]).unwrap_err();
    assert_eq!(error, Contradiction::UnixSocket.into());
    for variable in ["CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"] {
        let error = settings(&[("CONSUL_HTTP_SSL", "true"), (variable, "/pem")]).unwrap_err();
        assert_eq!(error, Contradiction::HalfIdentity.into());
    }
    assert_eq!(variable(&[("CONSUL_TLS_SERVER_NAME", "10.0.0.1")]).variable, "CONSUL_TLS_SERVER_NAME");
}

#[test]
fn an_error_names_the_variable_and_not_its_value() {
    for (variable, value) in [
        ("CONSUL_HTTP_TOKEN", "hunter2 hunter2"),
        ("CONSUL_HTTP_AUTH", "user:hunter2\n"),
        ("CONSUL_HTTP_ADDR", "http://user:hunter2@h"),
        ("CONSUL_HTTP_SSL", "hunter2"),
    ] {
        let error = self::variable(&[(variable, value)]);
        assert!(error.to_string().starts_with(&format!("environment variable {variable}: ")), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn secrets_are_compared_but_hidden_in_debug_output() {
    let variables = [("CONSUL_HTTP_TOKEN", "hunter2"), ("CONSUL_HTTP_AUTH", "u:hunter2")];
    let one = settings(&variables).unwrap();
    assert!(!format!("{one:?}").contains("hunter2"), "{one:?}");
    assert_eq!(one, settings(&variables).unwrap());
    assert_ne!(one, settings(&[("CONSUL_HTTP_TOKEN", "hunter3"), ("CONSUL_HTTP_AUTH", "u:hunter2")]).unwrap());
    assert_ne!(one, settings(&[("CONSUL_HTTP_TOKEN", "hunter2"), ("CONSUL_HTTP_AUTH", "u:hunter3")]).unwrap());
}
