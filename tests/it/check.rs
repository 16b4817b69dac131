//! `weightctl check` on setups with one fault each. It names the fault and exits with 1. After the fix that its hint
//! gives, it exits with 0.

mod hints;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Signal, getegid, geteuid};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{
    common::{backend, becomes, consul_is, converged, key, put, servers},
    haproxy_faults::banner,
    harness::{
        Consul, Haproxy, PATIENCE, Weightd, config,
        consul::Options,
        program,
        tls::{Authority, Leaf},
        weightd::Settings,
    },
};

/// A user at a shell, with environment variables and arguments for `weightctl check`.
#[derive(Default)]
struct User {
    variables: Vec<(&'static str, String)>,
    arguments: Vec<String>,
    bound_by_modes: bool,
}

impl User {
    /// A user of this Consul, with this token.
    fn of(consul: &Consul, token: Option<&str>) -> Self {
        let mut variables = vec![("CONSUL_HTTP_ADDR", consul.address())];
        variables.extend(token.map(|token| ("CONSUL_HTTP_TOKEN", token.to_owned())));
        Self { variables, ..Self::default() }
    }

    /// A user who also checks this HAProxy.
    fn with_haproxy(consul: &Consul, haproxy: &Haproxy) -> Self {
        Self::of(consul, None).with(&["--haproxy", &haproxy.address()])
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Runs these lines in a shell. All programs are in its PATH.
    async fn runs(&self, lines: &str) -> anyhow::Result<Output> {
        let own = [program::server("consul")?, program::binary("weightctl")?];
        let own = own.iter().filter_map(|program| program.parent()).map(Path::to_owned);
        let path = env::join_paths(own.chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())))?;
        let mut shell = if self.bound_by_modes && geteuid().is_root() {
            let mut setpriv = Command::new(program::SETPRIV);
            setpriv.args(program::BOUND_BY_MODES).arg("sh");
            setpriv
        } else {
            Command::new("sh")
        };
        program::without_consul(&mut shell);
        shell.envs(self.variables.iter().map(|(name, value)| (*name, value))).env("PATH", path);
        shell.args(["-c", lines]).stdin(Stdio::null()).kill_on_drop(true);
        timeout(PATIENCE, shell.output()).await.context("the shell did not end")?.context("cannot start a shell")
    }

    /// The report of `weightctl check` after these lines in the same shell.
    async fn report_after(&self, lines: &str) -> anyhow::Result<Value> {
        let output = self.runs(&format!("{lines}\nexec weightctl check -o json {}", self.arguments.join(" "))).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} after {lines}: {stderr}", output.status))?;
        let code = i32::from(report["ok"] != true);
        ensure!(output.status.code() == Some(code), "{} with {report:#}", output.status);
        Ok(report)
    }

    /// Expects that this check fails with a detail that contains `word`. Returns the hint.
    async fn fails(&self, check: &str, word: &str) -> anyhow::Result<String> {
        let report = self.report_after("").await?;
        ensure!(report["ok"] == false, "nothing fails: {report:#}");
        expect_finding(&report, check, "fail", word)
    }

    /// Expects that no check fails after these lines in the same shell.
    async fn passes_after(&self, lines: &str) -> anyhow::Result<Value> {
        let report = self.report_after(lines).await?;
        ensure!(report["ok"] == true, "after `{lines}`: {report:#}");
        Ok(report)
    }
}

/// Expects this verdict of a check, with a detail that contains `word`. Returns the hint.
fn expect_finding(report: &Value, check: &str, verdict: &str, word: &str) -> anyhow::Result<String> {
    let sections = report["sections"].as_array().context("no sections")?;
    let findings = || sections.iter().filter_map(|section| section["findings"].as_array()).flatten();
    let found = findings().find(|f| f["check"] == check && f["verdict"] == verdict);
    let found = found.with_context(|| format!("no {verdict} of {check}: {report:#}"))?;
    ensure!(found["detail"].as_str().is_some_and(|detail| detail.contains(word)), "no {word} in {found}");
    ensure!(
        findings().all(|f| f["verdict"] == "ok"
            || f["verdict"] == "skip"
            || f["hint"].as_str().is_some_and(|h| !h.is_empty())),
        "something has no hint: {report:#}"
    );
    Ok(found["hint"].as_str().unwrap_or_default().to_owned())
}

/// The command or configuration line in backticks in a hint; `number` counts from 0.
fn code(hint: &str, number: usize) -> anyhow::Result<String> {
    let code = hint.split('`').nth(2 * number + 1);
    code.map(str::to_owned).with_context(|| format!("nothing to paste in {hint}"))
}

#[tokio::test]
async fn a_stopped_consul_is_reported_and_the_check_passes_after_its_start() -> anyhow::Result<()> {
    let mut consul = Consul::start_with(Options { durable: true, ..Options::default() }).await?;
    put(&consul, "app", 70, 30).await?;
    let user = User::of(&consul, None);
    consul.stop().await?;
    let hint = user.fails("answers", "refused").await?;
    assert!(hint.starts_with("sudo systemctl start consul;"), "{hint}");
    consul.start_again().await?;
    user.passes_after("").await.map(drop)
}

#[tokio::test]
async fn a_consul_at_another_address_is_found_with_the_variable_of_the_hint() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    put(&consul, "app", 70, 30).await?;
    let user = User { variables: vec![("CONSUL_HTTP_ADDR", "127.0.0.1:1".to_owned())], ..User::default() };
    let hint = user.fails("answers", "127.0.0.1:1").await?;
    let (_, export) = hint.split_once("elsewhere: ").context(hint.clone())?;
    let address = consul.address();
    let address = address.strip_prefix("http://").unwrap_or(&address);
    user.passes_after(&export.replace("HOST:PORT", address)).await.map(drop)
}

#[tokio::test]
async fn a_consul_without_a_leader_is_reported() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { missing: 2, ..Options::default() }).await?;
    let hint = User::of(&consul, None).fails("leader", "no leader").await?;
    assert!(code(&hint, 0)?.starts_with("consul operator raft list-peers"), "{hint}");
    Ok(())
}

/// A Consul with ACLs and one document. Returns it with its management token.
async fn with_acl() -> anyhow::Result<(Consul, String)> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    put(&consul, "app", 70, 30).await?;
    let manager = consul.token().context("no management token")?.to_owned();
    Ok((consul, manager))
}

/// The lines with which an operator pastes the hint with the management token, then continues with the token `own`.
fn pasted(hint: &str, manager: &str, own: &str) -> String {
    let back = format!("[ \"$CONSUL_HTTP_TOKEN\" != {manager} ] || export CONSUL_HTTP_TOKEN={own}");
    format!("export CONSUL_HTTP_TOKEN={manager}\n{{ {hint}; }} >&2 || exit 99\n{back}")
}

#[tokio::test]
async fn a_token_that_consul_does_not_know_is_replaced_by_the_hint() -> anyhow::Result<()> {
    let (consul, manager) = with_acl().await?;
    consul.http().set_policy("old", r#"key_prefix "weightd/" { policy = "write" }"#).await?;
    let token = consul.http().new_token("old").await?;
    let user = User::of(&consul, Some(&token));
    user.passes_after("").await?;
    consul.http().delete_token(&token).await?;
    let hint = user.fails("token", "does not know this token").await?;
    assert!(!hint.contains(&token), "a secret is shown: {hint}");
    user.passes_after(&pasted(&hint, &manager, &token)).await?;
    // The same for a user without a token.
    let anonymous = User::of(&consul, None);
    let hint = anonymous.fails("read", "weightd/weights/").await?;
    anonymous.passes_after(&pasted(&hint, &manager, "none")).await.map(drop)
}

#[tokio::test]
async fn the_rule_that_a_token_lacks_is_added_by_the_hint() -> anyhow::Result<()> {
    let (consul, manager) = with_acl().await?;
    // The token has no read rule: the check fails, and the hint adds a read rule.
    consul.http().set_policy("stranger", r#"key_prefix "other/" { policy = "write" }"#).await?;
    let token = consul.http().new_token("stranger").await?;
    let user = User::of(&consul, Some(&token));
    let hint = user.fails("read", "this token may not read").await?;
    assert!(hint.contains(r#"key_prefix "weightd/weights/" { policy = "read" }"#), "{hint}");
    let report = user.passes_after(&pasted(&hint, &manager, &token)).await?;
    // The token has no write rule, which may be right: nothing grants it, and the rule is named.
    let rule = r#"`key "weightd/weights/BACKEND" { policy = "write" }`"#;
    assert_eq!(expect_finding(&report, "write", "skip", rule)?, "");
    // `--read-only` skips the check of the write rights.
    let reader = User::of(&consul, Some(&token)).with(&["--read-only"]).passes_after("").await?;
    assert!(expect_finding(&reader, "write", "ok", "").is_err(), "{reader:#}");
    // The token of a team may write one backend only. That is no failure.
    consul
        .http()
        .set_policy(
            "team",
            r#"key_prefix "weightd/weights/" { policy = "read" } key "weightd/weights/app" { policy = "write" }"#,
        )
        .await?;
    let team = consul.http().new_token("team").await?;
    let report = User::of(&consul, Some(&team)).passes_after("").await?;
    expect_finding(&report, "write", "ok", "app and no other").map(drop)
}

#[tokio::test]
async fn a_check_changes_nothing_in_consul() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    put(&consul, "app", 70, 30).await?;
    let before = consul.index("weightd/").await?;
    User::of(&consul, None).passes_after("").await?;
    assert_eq!(consul.index("weightd/").await?, before);
    Ok(())
}

#[tokio::test]
async fn documents_below_another_root_are_found_with_the_variable_of_the_hint() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put("lb/weights/app", r#"{"weights":{"blue":1,"green":2}}"#).await?;
    let user = User::of(&consul, None);
    let report = user.passes_after("").await?;
    let hint = expect_finding(&report, "documents", "warn", "no key below weightd/weights/")?;
    let report = user.passes_after(&hint).await?;
    expect_finding(&report, "documents", "ok", "1 valid").map(drop)
}

#[tokio::test]
async fn each_rejected_document_is_named_and_deleted_by_the_hint() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    put(&consul, "app", 70, 30).await?;
    consul.put(&key("bad"), r#"{"weights":{"blue":257}}"#).await?;
    consul.put(&key("it's bad"), "{}").await?;
    let user = User::of(&consul, None);
    let mut commands = String::new();
    for (key, word) in [("weightd/weights/bad: ", "257"), ("weightd/weights/it's bad: ", "")] {
        let report = user.report_after(&commands).await?;
        let hint = expect_finding(&report, "document", "fail", key)?;
        assert!(expect_finding(&report, "document", "fail", word).is_ok());
        let command = hint.split('`').find(|code| code.starts_with("consul kv delete")).context(hint.clone())?;
        commands = format!("{command} >&2 || exit 99");
    }
    let report = user.passes_after(&commands).await?;
    expect_finding(&report, "documents", "ok", "1 valid").map(drop)
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_reported_and_accepted_with_the_ca_of_the_hint() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { https: true, ..Options::default() }).await?;
    put(&consul, "app", 70, 30).await?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    fs::write(file("wrong.pem"), Authority::new("another CA")?.pem())?;
    fs::write(file("right.pem"), consul.ca().pem())?;
    consul.ca().issue(&Leaf::with(&["lb1"]))?.write(Path::new(&file("cert.pem")), Path::new(&file("key.pem")))?;
    let variables = vec![
        ("CONSUL_HTTP_ADDR", consul.https_address()),
        ("CONSUL_CACERT", file("wrong.pem")),
        ("CONSUL_CLIENT_CERT", file("cert.pem")),
        ("CONSUL_CLIENT_KEY", file("key.pem")),
    ];
    let user = User { variables, ..User::default() };
    let hint = user.fails("answers", "UnknownIssuer").await?;
    assert!(hint.contains("CONSUL_CACERT"), "{hint}");
    user.passes_after(&format!("export CONSUL_CACERT={}", file("right.pem"))).await.map(drop)
}

#[tokio::test]
async fn a_stopped_haproxy_is_reported_and_the_check_passes_after_its_start() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let user = User::with_haproxy(&consul, &haproxy);
    haproxy.stop().await?;
    let hint = user.fails("socket", "admin.sock").await?;
    assert!(hint.starts_with("systemctl start haproxy;"), "{hint}");
    haproxy.start_again().await?;
    user.passes_after("").await.map(drop)
}

/// The line for haproxy.cfg in a hint, changed for a machine without the group haproxy.
fn socket_line(hint: &str) -> anyhow::Result<String> {
    let line = code(hint, 0)?;
    ensure!(line.starts_with("stats socket ") && line.contains("group haproxy"), "{line}");
    Ok(format!("global\n    {}\n", line.replace("group haproxy", &format!("gid {}", getegid().as_raw()))))
}

/// Starts a HAProxy with the additional `sockets`. Expects that this check fails at the socket `name`, and that it
/// passes after a reload with the line of the hint in place of `sockets`.
async fn the_line_fixes(sockets: &str, name: &str, check: &str, word: &str) -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&(sockets.to_owned() + &backend("app", 100, 0))).await?;
    put(&consul, "app", 70, 30).await?;
    let address = format!("unix:{}", haproxy.dir().join(name).display());
    let user = User::of(&consul, None).with(&["--haproxy", &address]);
    let hint = user.fails(check, word).await?;
    haproxy.reload(&(socket_line(&hint)? + &backend("app", 100, 0))).await?;
    user.passes_after("").await.map(drop)
}

#[tokio::test]
async fn a_missing_socket_is_created_by_the_line_of_the_hint() -> anyhow::Result<()> {
    the_line_fixes("", "weightd.sock", "socket", "weightd.sock").await
}

#[tokio::test]
async fn a_socket_with_a_low_level_is_fixed_by_the_line_of_the_hint() -> anyhow::Result<()> {
    let low = "global\n    stats socket \"${ADMIN_SOCKET}.low\" mode 660 level operator\n";
    the_line_fixes(low, "admin.sock.low", "level", "operator").await
}

#[tokio::test]
async fn a_socket_without_permission_is_reported() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mode = |mode| fs::set_permissions(haproxy.socket(), fs::Permissions::from_mode(mode));
    mode(0o000)?;
    let user = User { bound_by_modes: true, ..User::with_haproxy(&consul, &haproxy) };
    let hint = user.fails("socket", "ermission").await?;
    assert!(hint.starts_with("sudo weightctl check;") && !hint.contains("usermod"), "{hint}");
    mode(0o660)?;
    user.passes_after("").await.map(drop)
}

#[tokio::test]
async fn a_socket_of_another_program_is_reported() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    put(&consul, "app", 70, 30).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("mail.sock");
    banner(&path)?;
    let address = format!("unix:{}", path.display());
    let hint = User::of(&consul, None)
        .with(&["--haproxy", &address])
        .fails("socket", "does not have the format of HAProxy")
        .await?;
    assert!(hint.contains("address"), "{hint}");
    Ok(())
}

#[tokio::test]
async fn a_static_algorithm_is_reported_and_replaced_by_the_line_of_the_hint() -> anyhow::Result<()> {
    let body = |line: &str| config::backend("app", &[line], &[("blue", 9, 100), ("green", 9, 0)], "");
    let (consul, mut haproxy) = servers(&body("balance static-rr")).await?;
    put(&consul, "app", 70, 30).await?;
    let user = User::with_haproxy(&consul, &haproxy);
    let hint = user.fails("algorithm", "app: `balance static-rr`").await?;
    haproxy.reload(&body(&code(&hint, 0)?)).await?;
    user.passes_after("").await.map(drop)
}

#[tokio::test]
async fn an_inexact_share_is_a_warning_and_no_failure() -> anyhow::Result<()> {
    let lines = ["balance leastconn", "cookie SRV insert"];
    let body = config::backend("app", &lines, &[("blue", 9, 100), ("green", 9, 0)], "cookie x");
    let (consul, haproxy) = servers(&body).await?;
    put(&consul, "app", 100, 0).await?;
    let report = User::with_haproxy(&consul, &haproxy).passes_after("").await?;
    for check in ["leastconn", "cookie"] {
        expect_finding(&report, check, "warn", "app: ")?;
    }
    // The check only reads: HAProxy still has its former weights.
    put(&consul, "app", 10, 90).await?;
    User::with_haproxy(&consul, &haproxy).passes_after("").await?;
    haproxy.until_weights("app", &[("blue", 100), ("green", 0)], PATIENCE).await.map(drop)
}

/// A weightd, and a user with its configuration file.
async fn beside_weightd(consul: &Consul, settings: Settings) -> anyhow::Result<(Weightd, User)> {
    let weightd = settings.start().await?;
    let config = weightd.dir().join("weightd.toml").display().to_string();
    let user = User::of(consul, consul.token()).with(&["--config", &config]);
    Ok((weightd, user))
}

#[tokio::test]
async fn a_split_and_an_override_are_no_other_documents() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    consul.put(&key("app"), r#"{"split":{"blue":90,"green":10}}"#).await?;
    let (weightd, user) = beside_weightd(&consul, Settings::new(&consul, &haproxy)).await?;
    becomes(&haproxy, "app", 9, 1).await?;
    converged(&weightd).await?;
    expect_finding(&user.passes_after("").await?, "follows", "ok", "")?;
    let socket = weightd.dir().join("run/weightd.sock");
    let over =
        format!("weightctl override app blue=1 green=3 --for 1h -m break-glass --socket {} >&2", socket.display());
    let report = user.report_after(&over).await?;
    becomes(&haproxy, "app", 1, 3).await?;
    expect_finding(&report, "follows", "ok", "")?;
    Ok(())
}

#[tokio::test]
async fn a_stopped_weightd_is_reported_and_the_check_passes_after_its_start() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let (mut weightd, user) = beside_weightd(&consul, Settings::new(&consul, &haproxy)).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    let report = user.passes_after("").await?;
    expect_finding(&report, "converged", "ok", "haproxy")?;
    weightd.stop().await?;
    let hint = user.fails("runs", "cannot be reached").await?;
    assert!(hint.starts_with("sudo systemctl start weightd;"), "{hint}");
    weightd.start_again().await?;
    converged(&weightd).await?;
    user.passes_after("").await.map(drop)
}

#[tokio::test]
async fn a_weightd_without_the_read_rule_is_reported_and_fixed_by_the_hint() -> anyhow::Result<()> {
    let (consul, _) = with_acl().await?;
    let haproxy = Haproxy::start(&backend("app", 100, 0)).await?;
    consul.http().set_policy("node", "").await?;
    let token = consul.http().new_token("node").await?;
    let settings = Settings::new(&consul, &haproxy).env("CONSUL_HTTP_TOKEN", &token);
    let (mut weightd, user) = beside_weightd(&consul, settings).await?;
    // Consul returns an empty list without any reason.
    consul_is(&weightd, "following", None).await?;
    let hint = user.fails("follows", "weightd's token may not read weightd/weights/").await?;
    consul.http().set_policy("node", &code(&hint, 0)?).await?;
    assert_eq!(code(&hint, 1)?, "sudo systemctl reload weightd");
    weightd.program().signal(Signal::HUP)?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    user.passes_after("").await.map(drop)
}

#[tokio::test]
async fn a_weightd_with_a_deleted_token_is_reported() -> anyhow::Result<()> {
    let (consul, _) = with_acl().await?;
    let haproxy = Haproxy::start(&backend("app", 100, 0)).await?;
    let settings = Settings::new(&consul, &haproxy).env("CONSUL_HTTP_TOKEN", "00000000-dead-dead-dead-000000000000");
    let (weightd, user) = beside_weightd(&consul, settings).await?;
    consul_is(&weightd, "held", Some("denied")).await?;
    let hint = user.fails("follows", "ACL not found").await?;
    assert_eq!(code(&hint, 0)?, r#"key_prefix "weightd/weights/" { policy = "read" }"#);
    Ok(())
}

#[tokio::test]
async fn an_invalid_configuration_is_reported_and_the_command_of_the_hint_names_its_line() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let (weightd, user) = beside_weightd(&consul, Settings::new(&consul, &haproxy)).await?;
    converged(&weightd).await?;
    let path = weightd.dir().join("weightd.toml");
    let good = fs::read_to_string(&path)?;
    fs::write(&path, format!("nodee = \"lb1\"\n{good}"))?;
    let hint = user.fails("configuration", "nodee").await?;
    let command = code(&hint, 0)?;
    let output = user.runs(&command).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && stderr.contains(":1:"), "{output:?}");
    let Some(suggested) = stderr.split('`').find(|word| *word == "node") else { bail!("no suggestion: {stderr}") };
    fs::write(&path, format!("{suggested} = \"lb1\"\n{}", good.replace("node = \"lb1\"\n", "")))?;
    user.passes_after("").await.map(drop)
}

#[tokio::test]
async fn a_missing_state_file_is_reported_until_weightd_writes_it() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let file = haproxy.dir().join("states/servers").display().to_string();
    let keys = [("name", "haproxy"), ("address", &haproxy.address()), ("state_file", &file)];
    let settings = Settings::without_haproxy(&consul.address()).instance(&keys);
    let (weightd, user) = beside_weightd(&consul, settings).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let hint = user.fails("state file", "states/servers").await?;
    // This machine has no such user and group: create the folder for the user of this weightd.
    let command = hint.split(';').next().context(hint.clone())?;
    let command = command.replace("sudo ", "").replace("-o weightd -g haproxy ", "");
    assert!(user.runs(&command).await?.status.success(), "{command}");
    crate::harness::eventually(PATIENCE, "weightd writes the file", async || {
        ensure!(Path::new(&file).exists());
        Ok(())
    })
    .await?;
    converged(&weightd).await?;
    user.passes_after("").await.map(drop)
}
