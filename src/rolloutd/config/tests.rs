use insta::assert_snapshot;

use super::*;
use crate::base::telemetry::settings::Format;

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

const SOURCE: &str = "[sources.vm]\nurl = \"http://127.0.0.1:8428\"\n";
const QUERY: &str = r#"'sum(increase(requests{cluster="$label"}[$window]))'"#;

/// A file with a source and a check with these further lines.
fn check(lines: &str) -> String {
    format!("{SOURCE}[checks.slow]\nsource = \"vm\"\ntotal = {QUERY}\nbad = {QUERY}\n{lines}")
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = parse("");
    assert_eq!(config.name, std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    assert_eq!(config.consul, consul::Settings::default());
    assert_eq!((config.root.as_str(), config.wait), ("weightd/", Duration::from_secs(55)));
    assert_eq!((config.max_active, config.api), (50, Some("127.0.0.1:9112".parse().unwrap())));
    assert_eq!(config.log, Log::default());
    assert!(config.sources.is_empty() && config.checks.is_empty() && config.webhooks.is_empty());
    let page = PageConfig {
        listen: "127.0.0.1:9111".parse().unwrap(),
        token: TokenSource::None,
        key_file: None,
        hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
        base_path: String::new(),
        behind_proxy: false,
        tls: None,
        metrics: Some("127.0.0.1:9113".parse().unwrap()),
    };
    assert_eq!(config.page, page);
}

#[test]
fn the_printed_default_equals_the_defaults() {
    assert_eq!(parse(&Config::default_toml()), parse(""));
}

#[test]
fn the_printed_default_shows_every_key() {
    let printed = Config::default_toml();
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in printed.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            line.clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ") {
            sections.entry(section.clone()).or_default().push(key.to_owned());
        }
    }
    let headers = [
        "",
        "[consul]",
        "[consul.tls]",
        "[controller]",
        "[api]",
        "[log]",
        "[sources.prometheus]",
        "[checks.slow_requests]",
        "[[webhook]]",
        "[page]",
        "[page.tls]",
    ];
    for header in headers {
        let unknown = message(&format!("{header}\nzzzzzzzz = 1"));
        let known = unknown.split_once("write one of ").expect(&unknown).1.split(", ").map(|key| key.trim_matches('`'));
        for key in known {
            let shown = sections.get(header).is_some_and(|keys| keys.iter().any(|shown| shown == key));
            let inside = header.trim_matches(['[', ']']);
            let below = if inside.is_empty() { key.to_owned() } else { format!("{inside}.{key}") };
            let is_section = sections.keys().any(|other| other.trim_matches(['[', ']']).starts_with(&below));
            assert!(shown || is_section, "the printed default lacks `{key}` in {header}");
        }
    }
}

#[test]
fn the_examples_of_the_printed_default_are_valid() {
    // Of keys that exclude each other, the first one is enabled.
    let excluded = ["auth = ", "auth_file = ", "token = ", "url = \"https://chat", "partition", "namespace"];
    let full: String = Config::default_toml()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if excluded.iter().any(|key| rest.starts_with(key)) => format!("{line}\n"),
            Some(rest) if rest.starts_with(['[', ' ', '\'']) => format!("{rest}\n"),
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '$'])) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    // TLS settings need an address with TLS.
    let config = parse(&full.replace("http://127.0.0.1:8500", "https://127.0.0.1:8501"));
    assert_eq!(config.name, "controller-1");
    let source = &config.sources["prometheus"];
    assert_eq!(source.url, "https://prometheus.example:9090");
    assert_eq!(source.credentials, Credentials::Bearer(TokenSource::File("/etc/weightd/prometheus.token".into())));
    assert_eq!((source.timeout, source.scrape_interval), (Duration::from_secs(5), Duration::from_secs(15)));
    let check = &config.checks["slow_requests"];
    assert_eq!((check.source.as_str(), check.window), ("prometheus", Duration::from_secs(60)));
    assert_eq!(check.bad.names().collect::<Vec<_>>(), ["backend", "label", "backend", "label"]);
    let default = parse("[[webhook]]\nname = \"chat\"\nurl_file = \"/f\"");
    assert_eq!(config.webhooks[0].events, default.webhooks[0].events);
    assert_eq!(config.webhooks[0].backends, [Pattern::new("shop-*").unwrap()]);
    assert_eq!(config.page.hosts, ["rollouts.example"]);
    let tls = PageTls { cert_file: "/etc/weightd/page.pem".into(), key_file: "/etc/weightd/page-key.pem".into() };
    assert_eq!(config.page.tls, Some(tls));
    assert_eq!(config.page_consul().token, TokenSource::File("/etc/weightd/page.token".into()));
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "[consul]\naddress = \"file:1\"\n[log]\nlevel = \"warn\"\nformat = \"json\"";
    let variables = [("CONSUL_HTTP_ADDR", "env:1"), ("CONSUL_HTTP_TOKEN", "abc"), ("ROLLOUTD_LOG", "trace")];
    let config = parse_with(text, &variables).unwrap();
    assert_eq!(config.consul.address.to_string(), "http://env:1");
    assert_eq!(config.consul.token, TokenSource::value("abc").unwrap());
    assert_eq!(config.page_consul().token, TokenSource::None, "the page never gets the token of the controller");
    assert_eq!((config.log.level.to_string().as_str(), config.log.format), ("trace", Format::Json));
    assert_snapshot!(parse_with("", &[("ROLLOUTD_LOG", "loud")]).unwrap_err(), @"environment variable ROLLOUTD_LOG: the level `loud` is not known; write one of `error`, `warn`, `info`, `debug`, `trace`, `off`");
}

#[test]
fn the_default_window_has_four_scrapes() {
    let window = |interval: &str| {
        let text = check("").replace("8428\"", &format!("8428\"\nscrape_interval = \"{interval}\""));
        parse(&text).checks["slow"].window.as_secs()
    };
    assert_eq!(["5s", "15s", "16s", "1m"].map(window), [60, 60, 70, 240]);
}

#[test]
fn a_window_that_gives_no_counts_is_refused() {
    assert_snapshot!(message(&check("window = \"55s\"")), @"/etc/weightd/rolloutd.toml:7: `checks.slow.window`: 55s is not a multiple of 10 s; write 1m");
    assert_snapshot!(message(&check("window = \"50s\"")), @"/etc/weightd/rolloutd.toml:7: `checks.slow.window`: 50s has fewer than 4 scrapes of `vm`, so its counts would be invented; write at least 1m");
    assert_snapshot!(message(&check("window = \"2h\"")), @"/etc/weightd/rolloutd.toml:7: `checks.slow.window`: 2h is out of range; write a duration from 10s to 1h");
    assert_eq!(parse(&check("window = \"2m\"")).checks["slow"].window, Duration::from_secs(120));
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest_known_key() {
    assert_snapshot!(message("nam = \"a\""), @"/etc/weightd/rolloutd.toml:1: unknown key `nam`; did you mean `name`?");
    assert_snapshot!(message("[controller]\nmax_activ = 1"), @"/etc/weightd/rolloutd.toml:2: unknown key `max_activ` in [controller]; did you mean `max_active`?");
    assert_snapshot!(message("[sources.vm]\nurl = \"http://h\"\ntimout = \"5s\""), @"/etc/weightd/rolloutd.toml:3: unknown key `timout` in [sources.vm]; did you mean `timeout`?");
    assert_snapshot!(message("[[webhook]]\nnmae = \"a\""), @"/etc/weightd/rolloutd.toml:2: unknown key `nmae` in [[webhook]]; did you mean `name`?");
    assert_snapshot!(message("[page.tsl]\ncert_file = \"a\""), @"/etc/weightd/rolloutd.toml:1: unknown key `tsl` in [page]; write one of `listen`, `token_file`, `key_file`, `hosts`, `base_path`, `behind_proxy`, `metrics_listen`, `tls`");
    assert_snapshot!(message("[webhook]\nname = \"a\""), @"/etc/weightd/rolloutd.toml:1: `webhook`: found a table or a date, expected a list; write [[webhook]] above each one");
    assert_snapshot!(message("[controller]\nmax_active = \"many\""), @"/etc/weightd/rolloutd.toml:2: `controller.max_active`: found text in quotes, expected a whole number");
}

#[test]
fn an_invalid_value_names_the_cause_and_the_fix() {
    assert_snapshot!(message("name = \"a b\""), @"/etc/weightd/rolloutd.toml:1: `name`: `a b` contains ` `; write a name of A-Z a-z 0-9 _ . -");
    assert_snapshot!(message("[controller]\nmax_active = 0"), @"/etc/weightd/rolloutd.toml:2: `controller.max_active`: 0 is out of range; write a number from 1 to 500");
    assert_snapshot!(message("[api]\nlisten = \"0.0.0.0:9112\""), @"/etc/weightd/rolloutd.toml:2: `api.listen`: other machines can reach this address; write a loopback address, or set allow_remote = true");
    assert_snapshot!(message("[api]\nlisten = \"x\""), @r#"/etc/weightd/rolloutd.toml:2: `api.listen`: not an IP address with a port; write for example "127.0.0.1:9112", or "off""#);
}

#[test]
fn an_invalid_source_names_the_cause_and_the_fix() {
    let source = |lines: &str| message(&format!("[sources.vm]\n{lines}"));
    assert_snapshot!(source(""), @r#"/etc/weightd/rolloutd.toml:1: `sources.vm.url`: is missing; write the address, such as url = "http://127.0.0.1:9090""#);
    assert_snapshot!(source("url = \"vm:8428\""), @"/etc/weightd/rolloutd.toml:2: `sources.vm.url`: not an address; write http://host:port or https://host:port, optionally with a path");
    assert_snapshot!(source("url = \"http://u:hunter2@h\""), @"/etc/weightd/rolloutd.toml:2: `sources.vm.url`: the address contains `@`; write user and password to `auth` or `auth_file`");
    assert_snapshot!(source("url = \"http://h/api/v1/\""), @"/etc/weightd/rolloutd.toml:2: `sources.vm.url`: the address ends with the path of the API; write only what is in front of /api/v1");
    assert_snapshot!(source("url = \"http://h\"\nauth = \"hunter2\""), @"/etc/weightd/rolloutd.toml:3: `sources.vm.auth`: the value has no colon; write user:password");
    assert_snapshot!(source("url = \"http://h\"\nauth_file = \"/a\"\ntoken_file = \"/b\""), @"/etc/weightd/rolloutd.toml:1: `sources.vm`: more than one of token_file, auth and auth_file; keep one of them");
    assert_snapshot!(source("url = \"http://h\"\nca_file = \"/a\""), @"/etc/weightd/rolloutd.toml:1: `sources.vm.ca_file`: a CA is configured, but the address is not encrypted; write https://, or remove the key");
    assert_snapshot!(source("url = \"http://h\"\ntimeout = \"1m\""), @"/etc/weightd/rolloutd.toml:3: `sources.vm.timeout`: 1m is out of range; write a duration from 1s to 30s");
    assert_snapshot!(message("[sources.\"a b\"]"), @"/etc/weightd/rolloutd.toml:1: `sources`: `a b` contains ` `; write a name of A-Z a-z 0-9 _ . -");
    let config = parse("[sources.vm]\nurl = \"HTTP://H:8428/select/0/prometheus/\"");
    assert_eq!(config.sources["vm"].url, "http://h:8428/select/0/prometheus");
}

#[test]
fn an_invalid_check_names_the_cause_and_the_fix() {
    assert_snapshot!(message("[checks.slow]\nsource = \"vm\""), @"/etc/weightd/rolloutd.toml:2: `checks.slow.source`: there is no source `vm`; add a section [sources.vm]");
    assert_snapshot!(message(&format!("{SOURCE}[checks.slow]\nsource = \"wm\"")), @"/etc/weightd/rolloutd.toml:4: `checks.slow.source`: there is no source `wm`; write one of `vm`");
    assert_snapshot!(message(&format!("{SOURCE}[checks.slow]\nsource = \"vm\"\ntotal = {QUERY}")), @"/etc/weightd/rolloutd.toml:3: `checks.slow.bad`: is missing; write the query for the number of bad requests");
    assert_snapshot!(message(&check("").replace("\"$label\"", "$label")), @r#"/etc/weightd/rolloutd.toml:5: `checks.slow.total`: `$label` is not in quotes; names are allowed only inside quoted matchers, such as cluster="$label""#);
    assert_snapshot!(message(&check("").replace("$window", "5m")), @"/etc/weightd/rolloutd.toml:5: `checks.slow.total`: the range must be `[$window]`, right after a selector, so that the counts are those of one window");
}

#[test]
fn an_invalid_webhook_names_the_cause_and_the_fix() {
    let webhook = |lines: &str| message(&format!("[[webhook]]\n{lines}"));
    assert_snapshot!(webhook("url = \"https://h/hunter2\""), @r#"/etc/weightd/rolloutd.toml:1: `webhook.name`: is missing; write a name for logs and metrics, such as name = "chat""#);
    assert_snapshot!(webhook("name = \"a\""), @"/etc/weightd/rolloutd.toml:1: `webhook.url`: is missing; write the URL, or its file to url_file");
    assert_snapshot!(webhook("name = \"a\"\nurl = \"https://h\"\nurl_file = \"/f\""), @"/etc/weightd/rolloutd.toml:1: `webhook.url`: url and url_file are both set; keep one of them");
    assert_snapshot!(webhook("name = \"a\"\nurl = \"ftp://h\""), @"/etc/weightd/rolloutd.toml:3: `webhook.url`: not a URL of HTTP; write https://host/path");
    assert_snapshot!(webhook("name = \"a\"\nurl = \"https://u:hunter2@h\""), @"/etc/weightd/rolloutd.toml:3: `webhook.url`: the URL contains a user or a password; write a token to token_file");
    assert_snapshot!(webhook("name = \"a\"\nurl_file = \"/f\"\nevents = [\"done\", \"roled_back\"]"), @"/etc/weightd/rolloutd.toml:4: `webhook.events`: `roled_back` is not known; did you mean `rolled_back`?");
    assert_snapshot!(webhook("name = \"a\"\nurl_file = \"/f\"\nbackends = [\"a b\"]"), @"/etc/weightd/rolloutd.toml:4: `webhook.backends`: the name `a b` contains ` `; valid characters are A-Z a-z 0-9 _ . : -");
    assert_snapshot!(webhook("name = \"a\"\nurl_file = \"/f\"\n[[webhook]]\nname = \"a\"\nurl_file = \"/f\""), @"/etc/weightd/rolloutd.toml:5: `webhook.name`: two webhooks have the name `a`; give each [[webhook]] its own name");
    let config = parse("[[webhook]]\nname = \"a\"\nurl_file = \"/f\"\nevents = [\"done\", \"started\", \"done\"]");
    assert_eq!(config.webhooks[0].events, [EventKind::Started, EventKind::Done]);
}

#[test]
fn a_page_that_other_machines_reach_needs_tls_or_a_proxy_and_its_hosts() {
    let page = |lines: &str| message(&format!("[page]\n{lines}"));
    assert_snapshot!(page("listen = \"0.0.0.0:9111\""), @"/etc/weightd/rolloutd.toml:2: `page.listen`: other machines can reach this address without TLS, and people type tokens there; write a loopback address, set cert_file and key_file in [page.tls], or set behind_proxy = true if a proxy has TLS");
    assert_snapshot!(page("behind_proxy = true"), @r#"[page]: `hosts` is missing, so the page would answer nobody; write the names under which people reach it, such as hosts = ["rollouts.example"]"#);
    assert_snapshot!(page("hosts = [\"rollouts.example:443\"]"), @"/etc/weightd/rolloutd.toml:2: `page.hosts`: not a host; write a name such as rollouts.example, or an IP address, without a port");
    assert_snapshot!(page("base_path = \"rollouts\""), @"/etc/weightd/rolloutd.toml:2: `page.base_path`: the path has no slash in front; write /path");
    assert_snapshot!(page("base_path = \"/a/../b\""), @"/etc/weightd/rolloutd.toml:2: `page.base_path`: not a path; write /path of A-Z a-z 0-9 _ . - ~");
    assert_snapshot!(page("metrics_listen = \"0.0.0.0:1\""), @"/etc/weightd/rolloutd.toml:2: `page.metrics_listen`: other machines can reach this address; write a loopback address");
    assert_snapshot!(page("[page.tls]\ncert_file = \"/c\""), @"/etc/weightd/rolloutd.toml:3: `page.tls`: a certificate needs its key, and a key needs its certificate; set cert_file and key_file");
    let config = parse(
        "[page]\nlisten = \"[::]:443\"\nhosts = [\"Rollouts.Example\", \"[::1]\"]\nbase_path = \"/r/\"\nmetrics_listen = \"off\"\n[page.tls]\ncert_file = \"/c\"\nkey_file = \"/k\"",
    );
    assert_eq!(config.page.hosts, ["rollouts.example", "[::1]"]);
    assert_eq!((config.page.base_path.as_str(), config.page.metrics), ("/r", None));
}

#[test]
fn errors_and_debug_output_hide_secrets() {
    let wrong = [
        "[sources.vm]\nurl = \"http://h\"\nauth = [\"hunter2\"]",
        "[sources.vm]\nurl = \"http://h\"\nauth = \"u:hunter2\\n\"",
        "[[webhook]]\nname = \"a\"\nurl = \"hunter2\"",
        "[[webhook]]\nname = \"a\"\nurl = \"https://h/hunter2 x\"",
        "[[webhook]]\nname = \"a\"\nurl = 4711",
    ];
    for text in wrong {
        let error = parse_with(text, &[]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
    }
    let config = parse(
        "[sources.vm]\nurl = \"http://h\"\nauth = \"u:hunter2\"\n[[webhook]]\nname = \"a\"\nurl = \"https://h/hunter2\"",
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    let url = SecretString::from("https://h/\u{e4}hunter2");
    assert!(!check_webhook_url(&url).unwrap_err().contains("hunter2"));
}

#[test]
fn keys_that_need_a_restart_are_named_for_each_program() {
    let running = parse("");
    let at_runtime = format!(
        "{}[[webhook]]\nname = \"a\"\nurl_file = \"/f\"\n[consul]\ntoken = \"abc\"\n[log]\nlevel = \"debug\"",
        check("")
    );
    for role in [Role::Controller, Role::Page] {
        assert_eq!(running.needs_restart(&parse(&at_runtime), role), Vec::<&str>::new());
    }
    let after_restart = "name = \"n\"\n[consul]\naddress = \"h:1\"\nroot = \"r/\"\nwait = \"10s\"\n[log]\nformat = \"json\"\n[controller]\nmax_active = 1\n[api]\nlisten = \"off\"\n[page]\nlisten = \"127.0.0.1:1\"\nkey_file = \"/k\"\nhosts = [\"h\"]\nbase_path = \"/b\"\nbehind_proxy = true\nmetrics_listen = \"off\"\n[page.tls]\ncert_file = \"/c\"\nkey_file = \"/k\"";
    let other = parse(after_restart);
    let shared = ["name", "consul.address", "consul.root", "consul.wait", "log.format"];
    let controller = [shared.as_slice(), &["controller.max_active", "api.listen"]].concat();
    assert_eq!(running.needs_restart(&other, Role::Controller), controller);
    let page = [
        "page.listen",
        "page.key_file",
        "page.hosts",
        "page.base_path",
        "page.behind_proxy",
        "page.tls",
        "page.metrics_listen",
    ];
    assert_eq!(running.needs_restart(&other, Role::Page), [shared.as_slice(), &page].concat());
}
