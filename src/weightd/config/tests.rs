use insta::assert_snapshot;

use super::*;
use crate::{
    base::telemetry::settings::Format,
    consul::tls::{Ca, Identity},
};

fn env<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::parse(Path::new(DEFAULT_PATH), text, &env(variables))
}

fn parse(text: &str) -> Config {
    parse_with(text, &[]).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Returns the error message for `text`.
fn message(text: &str) -> String {
    parse_with(text, &[]).expect_err(text).to_string()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = parse("");
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.node, std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    assert_eq!(
        (config.state_dir.as_path(), config.run_dir.as_path()),
        (Path::new("/var/lib/weightd"), Path::new("/run/weightd"))
    );
    assert_eq!(config.consul, consul::Settings::default());
    assert_eq!(config.root.as_str(), "weightd/");
    assert_eq!(config.wait, Duration::from_secs(55));
    assert_eq!((config.resync, config.process_poll), (Duration::from_secs(10), Duration::from_millis(200)));
    assert_eq!(config.api, Some("127.0.0.1:9110".parse().unwrap()));
    assert_eq!(config.socket.as_deref(), Some(Path::new("/run/weightd/weightd.sock")));
    assert_eq!(config.log, Log::default());
    let address = "unix:/run/haproxy/admin.sock".parse().unwrap();
    assert_eq!(
        config.haproxy,
        [HaproxyConfig {
            name: "haproxy".to_owned(),
            address,
            root: Root::default(),
            state_file: None,
            master_socket: None
        }]
    );
}

#[test]
fn the_printed_default_equals_the_defaults_and_shows_every_key() {
    let printed = Config::default_toml();
    assert_eq!(parse(&printed), parse(""));

    // With its commented keys enabled, the file is still valid and complete. A key is missing if the error for an
    // unknown key lists it and the file does not have it.
    let full: String = printed
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '$'])) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    // TLS settings need an address with TLS.
    let full = full.replace("http://127.0.0.1:8500", "https://127.0.0.1:8501");
    let config = parse(&full);
    assert_eq!((config.node.as_str(), config.haproxy[0].root.as_str()), ("lb-1", "weightd-edge/"));
    let table: toml::Table = toml::from_str(&full).unwrap();
    for (section, keys) in [(None, &table)]
        .into_iter()
        .chain(["consul", "reconcile", "api", "log"].map(|name| (Some(name), table[name].as_table().unwrap())))
        .chain([
            (Some("[haproxy]"), table["haproxy"][0].as_table().unwrap()),
            (Some("consul.tls"), table["consul"]["tls"].as_table().unwrap()),
        ])
    {
        let header = section.map(|name| format!("[{name}]\n")).unwrap_or_default();
        let unknown = message(&format!("{header}zzzzzzzz = 1"));
        let known: Vec<_> =
            unknown.split_once("write one of ").unwrap().1.split(", ").map(|key| key.trim_matches('`')).collect();
        for key in known {
            assert!(keys.contains_key(key), "the printed default lacks `{key}` in {section:?}");
        }
    }
}

#[test]
fn every_key_can_be_set() {
    let config = parse(
        r#"
        mode = "observe"
        node = "lb-1.example"
        state_dir = "/s"
        run_dir = "/r"
        [consul]
        address = "unix:///run/consul.sock"
        token = "abc"
        auth = "u:p"
        datacenter = "dc1"
        namespace = "ns"
        partition = "p"
        root = "edge"
        wait = "1m"
        [reconcile]
        resync = "1h"
        process_poll = "50ms"
        [api]
        listen = "[::]:0"
        allow_remote = true
        [log]
        level = "warn,weightd::haproxy=trace"
        format = "json"
        [[haproxy]]
        name = "a"
        address = "/run/a.sock"
        [[haproxy]]
        name = "b"
        address = "tcp:10.0.0.1:9999"
        allow_remote = true
        root = "other/root/"
        "#,
    );
    assert_eq!((config.mode, config.node.as_str()), (Mode::Observe, "lb-1.example"));
    assert_eq!((config.state_dir.as_path(), config.run_dir.as_path()), (Path::new("/s"), Path::new("/r")));
    assert_eq!(config.consul.address.to_string(), "unix:///run/consul.sock");
    assert_eq!(config.consul.token, consul::TokenSource::value("abc").unwrap());
    assert!(config.consul.auth.is_some());
    assert_eq!(
        [config.consul.datacenter, config.consul.namespace, config.consul.partition].map(Option::unwrap),
        ["dc1", "ns", "p"]
    );
    assert_eq!(
        (config.wait, config.resync, config.process_poll),
        (Duration::from_secs(60), Duration::from_secs(3600), Duration::from_millis(50))
    );
    assert_eq!(config.api, Some("[::]:0".parse().unwrap()));
    assert_eq!(
        (config.log.level.to_string().as_str(), config.log.format),
        ("warn,weightd::haproxy=trace", Format::Json)
    );
    let instances: Vec<_> = config.haproxy.iter().map(|i| format!("{} {} {}", i.name, i.address, i.root)).collect();
    assert_eq!(instances, ["a unix:/run/a.sock edge/", "b tcp:10.0.0.1:9999 other/root/"]);
    assert_eq!(parse("[api]\nlisten = \"off\"").api, None);
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "state_dir = \"/s\"\n[consul]\naddress = \"file:1\"\ntoken_file = \"/file\"\nnamespace = \"file\"\npartition = \"file\"\n[log]\nlevel = \"warn\"";
    let variables = [
        ("CONSUL_HTTP_ADDR", "env:1"),
        ("CONSUL_HTTP_TOKEN", "abc"),
        ("CONSUL_NAMESPACE", "env"),
        ("STATE_DIRECTORY", "/env/one:/env/two"),
        ("RUNTIME_DIRECTORY", "/env/run"),
        ("WEIGHTD_LOG", "trace"),
    ];
    let config = parse_with(text, &variables).unwrap();
    assert_eq!(config.consul.address.to_string(), "http://env:1");
    assert_eq!(config.consul.token, consul::TokenSource::value("abc").unwrap());
    assert_eq!((config.consul.namespace.as_deref(), config.consul.partition.as_deref()), (Some("env"), Some("file")));
    assert_eq!((config.state_dir.as_path(), config.run_dir.as_path()), (Path::new("/env/one"), Path::new("/env/run")));
    assert_eq!(config.log.level.to_string(), "trace");

    let unset = variables.map(|(name, _)| (name, ""));
    assert_eq!(parse_with(text, &unset).unwrap(), parse(text), "an empty variable is unset");
}

#[test]
fn tls_variables_override_the_tls_section() {
    let text = "[consul]\naddress = \"https://h:8501\"\n[consul.tls]\nca_file = \"/ca\"\nca_path = \"/dir\"\nclient_cert = \"/cert\"\nclient_key = \"/key\"\nserver_name = \"n.example\"";
    let expected = consul::Tls {
        ca: Some(Ca::File("/ca".into())),
        identity: Some(Identity { cert: "/cert".into(), key: "/key".into() }),
        server_name: Some("n.example".to_owned()),
        verify: true,
    };
    assert_eq!(parse(text).consul.tls, expected);
    let variables = [
        ("CONSUL_CAPATH", "/env"),
        ("CONSUL_CLIENT_KEY", "/env"),
        ("CONSUL_TLS_SERVER_NAME", "env.example"),
        ("CONSUL_HTTP_SSL_VERIFY", "false"),
    ];
    let expected = consul::Tls {
        ca: Some(Ca::Directory("/env".into())),
        identity: Some(Identity { cert: "/cert".into(), key: "/env".into() }),
        server_name: Some("env.example".to_owned()),
        verify: false,
    };
    assert_eq!(parse_with(text, &variables).unwrap().consul.tls, expected);
    let config = parse_with("[consul.tls]\nca_file = \"/ca\"", &[("CONSUL_HTTP_SSL", "true")]).unwrap();
    assert_eq!(config.consul.address.to_string(), "https://127.0.0.1:8500");
    assert!(!parse("[consul]\naddress = \"https://h\"\n[consul.tls]\nverify = false").consul.tls.verify);
}

#[test]
fn an_invalid_tls_setting_names_the_cause_and_the_fix() {
    assert_snapshot!(message("[consul.tls]\nca_file = \"/ca\""), @"[consul]: TLS is configured, but http://127.0.0.1:8500 is not encrypted; write https:// or set CONSUL_HTTP_SSL=true, or remove the keys of [consul.tls] and CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY, CONSUL_TLS_SERVER_NAME and CONSUL_HTTP_SSL_VERIFY");
    assert_snapshot!(message("[consul]\naddress = \"https://h\"\n[consul.tls]\nclient_cert = \"/c\""), @"[consul]: a client certificate needs its key, and a key needs its certificate; set client_cert and client_key in [consul.tls], or CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, or none of them");
    assert_snapshot!(message("[consul.tls]\nca_file = \"ca\""), @"/etc/weightd/weightd.toml:2: `consul.tls.ca_file`: the path is relative; write an absolute path");
    assert_snapshot!(message("[consul.tls]\nserver_name = \"10.0.0.1\""), @"/etc/weightd/weightd.toml:2: `consul.tls.server_name`: not a host name; write one such as server.dc1.consul");
    assert_snapshot!(message("[consul.tls]\nca_fil = \"/ca\""), @"/etc/weightd/weightd.toml:2: unknown key `ca_fil` in [consul.tls]; did you mean `ca_file`?");
    assert_snapshot!(message("[consul.tls]\nverify = \"no\""), @"/etc/weightd/weightd.toml:2: `consul.tls.verify`: found text in quotes, expected true or false");
}

#[test]
fn a_token_file_overrides_a_token() {
    let config = parse("[consul]\ntoken = \"abc\"\ntoken_file = \"/t\"");
    assert_eq!(config.consul.token, consul::TokenSource::File("/t".into()));
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest_known_key() {
    assert_snapshot!(message("mode = \"enforce\"\n\n[reconcile]\nresinc = \"10s\""), @"/etc/weightd/weightd.toml:4: unknown key `resinc` in [reconcile]; did you mean `resync`?");
    assert_snapshot!(message("mdoe = \"enforce\""), @"/etc/weightd/weightd.toml:1: unknown key `mdoe`; did you mean `mode`?");
    assert_snapshot!(message("[reconcile]\nx = 1"), @"/etc/weightd/weightd.toml:2: unknown key `x` in [reconcile]; write one of `resync`, `process_poll`");
    assert_snapshot!(message("[[haproxy]]\n[[haproxy]]\nadress = \"/a\""), @"/etc/weightd/weightd.toml:3: unknown key `adress` in [[haproxy]]; did you mean `address`?");
    assert_snapshot!(message("[consol]\naddress = \"/a\""), @"/etc/weightd/weightd.toml:1: unknown key `consol`; did you mean `consul`?");
    assert_snapshot!(message("\"a\\u001b[31m\" = 1"), @r"/etc/weightd/weightd.toml:1: unknown key `a\u{1b}[31m`; write one of `mode`, `node`, `state_dir`, `run_dir`, `consul`, `reconcile`, `api`, `fleet`, `log`, `haproxy`");
}

#[test]
fn a_value_of_the_wrong_type_names_the_expected_type() {
    assert_snapshot!(message("\nmode = 1"), @"/etc/weightd/weightd.toml:2: `mode`: found a number, expected text in quotes");
    assert_snapshot!(message("[reconcile]\nresync = 10"), @r#"/etc/weightd/weightd.toml:2: `reconcile.resync`: `10` has no unit; write a duration such as "10s", "200ms" or "1m30s""#);
    assert_snapshot!(message("[reconcile]\nresync = 1.5"), @r#"/etc/weightd/weightd.toml:2: `reconcile.resync`: `1.5` has no unit; write a duration such as "10s", "200ms" or "1m30s""#);
    assert_snapshot!(message("[reconcile]\nresync = true"), @r#"/etc/weightd/weightd.toml:2: `reconcile.resync`: found true or false, expected a duration such as "10s""#);
    assert_snapshot!(message("[reconcile]\nresync = \"10\""), @r#"/etc/weightd/weightd.toml:2: `reconcile.resync`: `10` has no unit; write a duration such as "10s", "200ms" or "1m30s""#);
    assert_snapshot!(message("[api]\nallow_remote = \"yes\""), @"/etc/weightd/weightd.toml:2: `api.allow_remote`: found text in quotes, expected true or false");
    assert_snapshot!(message("consul = 1"), @"/etc/weightd/weightd.toml:1: `consul`: found a number, expected a section");
    assert_snapshot!(message("[haproxy]\nname = \"a\""), @"/etc/weightd/weightd.toml:1: `haproxy`: found a table or a date, expected a list; write [[haproxy]] above each one");
    assert_snapshot!(message("mode = enforce"), @"/etc/weightd/weightd.toml:1: string values must be quoted, expected literal string");
    assert_snapshot!(message("mode = \"observe\"\nmode = \"enforce\""), @"/etc/weightd/weightd.toml:2: duplicate key; keep one of them");
    assert_snapshot!(message("[consul\n"), @"/etc/weightd/weightd.toml:1: unclosed table, expected `]`");
}

#[test]
fn an_invalid_value_names_the_cause_and_the_fix() {
    assert_snapshot!(message("mode = \"enforced\""), @"/etc/weightd/weightd.toml:1: `mode`: `enforced` is not known; did you mean `enforce`?");
    assert_snapshot!(message("node = \"a b\""), @"/etc/weightd/weightd.toml:1: `node`: `a b` contains ` `; write a name of A-Z a-z 0-9 _ . -");
    assert_snapshot!(message("state_dir = \"var\""), @"/etc/weightd/weightd.toml:1: `state_dir`: the path is relative; write an absolute path");
    assert_snapshot!(message("[consul]\nroot = \"/weightd\""), @"/etc/weightd/weightd.toml:2: `consul.root`: the root starts with a slash, but Consul's keys do not; remove the slash");
    assert_snapshot!(message("[consul]\nroot = \"a/../b\""), @"/etc/weightd/weightd.toml:2: `consul.root`: the root has an invalid segment: `.` and `..` are not valid names; write a name of A-Z a-z 0-9 _ . -");
    assert_snapshot!(message("[consul]\nwait = \"5s\""), @"/etc/weightd/weightd.toml:2: `consul.wait`: 5s is out of range; write a duration from 10s to 10m");
    assert_snapshot!(message("[consul]\ntoken_file = \"\""), @"/etc/weightd/weightd.toml:2: `consul.token_file`: the path is relative; write an absolute path");
    assert_snapshot!(message("[consul]\ndatacenter = \"\""), @"/etc/weightd/weightd.toml:2: `consul.datacenter`: not a valid name: it is empty; write a name of A-Z a-z 0-9 _ . -");
    assert_snapshot!(message("[reconcile]\nprocess_poll = \"0s\""), @"/etc/weightd/weightd.toml:2: `reconcile.process_poll`: 0s is out of range; write a duration from 50ms to 10s");
    assert_snapshot!(message("[api]\nlisten = \"0.0.0.0:9110\""), @"/etc/weightd/weightd.toml:2: `api.listen`: other machines can reach this address; write a loopback address, or set allow_remote = true");
    assert_snapshot!(message("[api]\nlisten = \"\""), @r#"/etc/weightd/weightd.toml:2: `api.listen`: not an IP address with a port; write for example "127.0.0.1:9110", or "off""#);
    assert_snapshot!(message("[log]\nlevel = \"inof\""), @"/etc/weightd/weightd.toml:2: `log.level`: the level `inof` is not known; did you mean `info`?");
    assert_snapshot!(message("[log]\nformat = \"logfmt\""), @"/etc/weightd/weightd.toml:2: `log.format`: `logfmt` is not known; write one of `auto`, `text`, `journal`, `json`");
    assert_snapshot!(message("[[haproxy]]\naddress = \"haproxy:9999\""), @"/etc/weightd/weightd.toml:2: `haproxy.address`: not an address of HAProxy's runtime API; write unix:/path, abns@name or tcp:host:port");
    assert_snapshot!(message("[[haproxy]]\naddress = \"tcp:10.0.0.1:9999\""), @"/etc/weightd/weightd.toml:2: `haproxy.address`: tcp:10.0.0.1:9999 may be on another machine, and the runtime API has neither password nor encryption; use a Unix socket, or set allow_remote = true for this instance");
    assert_snapshot!(message("[[haproxy]]\n[[haproxy]]\naddress = \"/a\""), @"/etc/weightd/weightd.toml:2: `haproxy.name`: two instances have the name `haproxy`; give each [[haproxy]] its own name");
    assert_snapshot!(message("[[haproxy]]\nstate_file = \"server-state\""), @"/etc/weightd/weightd.toml:2: `haproxy.state_file`: the path is relative; write an absolute path");
    assert_snapshot!(message("[[haproxy]]\nname = \"a\"\nstate_file = \"/s\"\n[[haproxy]]\nname = \"b\"\naddress = \"/b\"\nstate_file = \"/s\""), @"/etc/weightd/weightd.toml:7: `haproxy.state_file`: two instances write the file /s; give each [[haproxy]] its own file");
    assert_snapshot!(message("[[haproxy]]\nname = \"a\"\n[[haproxy]]\nname = \"b\"\naddress = \"unix:///run//haproxy/admin.sock\""), @"/etc/weightd/weightd.toml:5: `haproxy.address`: two instances have the address unix:/run/haproxy/admin.sock; write one [[haproxy]] section for each HAProxy");
}

#[test]
fn an_invalid_variable_is_named() {
    let message = |variables: &[(&str, &str)]| parse_with("", variables).unwrap_err().to_string();
    assert_snapshot!(message(&[("CONSUL_HTTP_SSL", "yes")]), @"environment variable CONSUL_HTTP_SSL: neither true nor false; write true or false");
    assert_snapshot!(message(&[("CONSUL_NAMESPACE", "a/b")]), @"environment variable CONSUL_NAMESPACE: not a valid name: `a/b` contains `/`; write a name of A-Z a-z 0-9 _ . -");
    assert_snapshot!(message(&[("STATE_DIRECTORY", "weightd")]), @"environment variable STATE_DIRECTORY: the path is relative; write an absolute path");
    assert_snapshot!(message(&[("WEIGHTD_LOG", "loud")]), @"environment variable WEIGHTD_LOG: the level `loud` is not known; write one of `error`, `warn`, `info`, `debug`, `trace`, `off`");
}

#[test]
fn errors_and_debug_output_hide_secrets() {
    let wrong = [
        "[consul]\ntoken = [\"hunter2\"]",
        "[consul]\ntoken = \"hunter2",
        "[consul]\ntoken = hunter2",
        "[consul]\ntoken = \"hunter2 hunter2\"",
        "[consul]\ntoken = \"a\" \"hunter2\"",
        "[consul]\ntoken = 4711",
        "[consul]\nauth = \"u:hunter2\\n\"",
        "[consul]\nauth = { hunter2 = \"hunter2\" }",
        "[consul]\naddress = \"http://u:hunter2@h\"",
        "[consul]\nwait = \"1s\"\ntoken = \"hunter2\"",
    ];
    for text in wrong {
        let error = parse_with(text, &[]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
    }
    let config = parse("[consul]\ntoken = \"hunter2\"\nauth = \"u:hunter2\"");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn an_explicit_path_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weightd.toml");
    assert!(matches!(Config::load(Some(&path), &env(&[])), Err(ConfigError::Read { .. })));

    std::fs::write(&path, "mode = \"observe\"").unwrap();
    assert_eq!(Config::load(Some(&path), &env(&[])).unwrap().mode, Mode::Observe);
    std::fs::write(&path, b"\n\nmode = \"\xff\"").unwrap();
    assert!(matches!(Config::load(Some(&path), &env(&[])), Err(ConfigError::NotUtf8 { line: 3, .. })));
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    assert!(matches!(Config::load(Some(&path), &env(&[])), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let running = parse("");
    assert_eq!(running.needs_restart(&running), Vec::<&str>::new());
    let at_runtime = "[consul]\ntoken = \"abc\"\nauth = \"u:p\"\n[log]\nlevel = \"debug\"\n[reconcile]\nresync = \"1s\"\nprocess_poll = \"1s\"";
    assert_eq!(running.needs_restart(&parse(at_runtime)), Vec::<&str>::new());
    let after_restart = "mode = \"observe\"\nnode = \"n\"\nstate_dir = \"/s\"\nrun_dir = \"/r\"\n[consul]\naddress = \"h:1\"\ndatacenter = \"d\"\nnamespace = \"n\"\npartition = \"p\"\nroot = \"r/\"\nwait = \"10s\"\n[api]\nlisten = \"off\"\n[log]\nformat = \"json\"\n[[haproxy]]\nname = \"a\"";
    let keys = [
        "mode",
        "node",
        "state_dir",
        "run_dir",
        "consul.address",
        "consul.datacenter",
        "consul.namespace",
        "consul.partition",
        "consul.root",
        "consul.wait",
        "api.listen",
        "log.format",
        "haproxy",
    ];
    assert_eq!(running.needs_restart(&parse(after_restart)), keys);
    assert_eq!(running.needs_restart(&parse("[[haproxy]]\nroot = \"r/\"")), ["haproxy.root"]);
}
