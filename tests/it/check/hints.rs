//! Hints that grant rights or configure something: the rule is the narrowest one, and the command works as printed.

use std::fs;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::{User, beside_weightd, expect_finding, pasted, with_acl};
use crate::{
    common::{backend, becomes, put, servers},
    harness::{program, weightd::Settings},
};

/// The hint of a check with any verdict.
fn hint(report: &Value, check: &str) -> anyhow::Result<String> {
    let sections = report["sections"].as_array().context("no sections")?;
    let mut findings = sections.iter().filter_map(|section| section["findings"].as_array()).flatten();
    let found =
        findings.find(|finding| finding["check"] == check).with_context(|| format!("no {check}: {report:#}"))?;
    Ok(found["hint"].as_str().with_context(|| format!("no hint: {found}"))?.to_owned())
}

#[tokio::test]
async fn no_hint_grants_a_team_or_a_node_write_on_other_backends() -> anyhow::Result<()> {
    let (consul, _) = with_acl().await?;
    put(&consul, "other", 1, 2).await?;
    let own = r#"key "weightd/weights/app" { policy = "write" }"#;
    let leaves = r#"key_prefix "weightd/weights/app/" { policy = "write" }"#;
    consul.http().set_policy("team", &format!("{own} {leaves}")).await?;
    consul.http().set_policy("node", r#"key_prefix "weightd/weights/" { policy = "read" }"#).await?;
    for (name, verdict, detail) in
        [("team", "ok", "may write app and no other"), ("node", "skip", "may write no backend below weightd/weights/")]
    {
        let token = consul.http().new_token(name).await?;
        let report = User::of(&consul, Some(&token)).passes_after("").await?;
        expect_finding(&report, "write", verdict, detail)?;
        let text = report.to_string();
        ensure!(!text.contains(r#"key_prefix \"weightd/weights/\" { policy = \"write\""#), "{report:#}");
        // A node needs no right to write at all.
        ensure!(name == "team" || !text.contains("acl policy"), "{report:#}");
    }
    Ok(())
}

#[tokio::test]
async fn the_rules_to_ask_the_nodes_are_added_by_the_hint() -> anyhow::Result<()> {
    let (consul, manager) = with_acl().await?;
    put(&consul, "other", 1, 2).await?;
    let read = r#"key_prefix "weightd/weights/" { policy = "read" }"#;
    let own = r#"key "weightd/weights/app" { policy = "write" }"#;
    let all = r#"key_prefix "weightd/weights/" { policy = "write" }"#;
    for (name, rules, whom, rule) in [
        ("team", format!("{read} {own}"), "app", r#"key_prefix "weightd/observe/app/" { policy = "write" }"#),
        ("operator", all.to_owned(), "every backend", r#"key_prefix "weightd/observe/" { policy = "write" }"#),
    ] {
        consul.http().set_policy(name, &rules).await?;
        let token = consul.http().new_token(name).await?;
        let user = User::of(&consul, Some(&token));
        let report = user.passes_after("").await?;
        let hint = expect_finding(&report, "observe", "warn", &format!("may not ask the nodes about {whom}"))?;
        for rule in [rule, r#"key_prefix "weightd/counters/" { policy = "read" }"#] {
            ensure!(hint.contains(rule), "{name}: {hint}");
        }
        let report = user.passes_after(&pasted(&hint, &manager, &token)).await?;
        expect_finding(&report, "observe", "ok", whom)?;
    }
    // A node does not ask other nodes.
    consul.http().set_policy("node", read).await?;
    let token = consul.http().new_token("node").await?;
    let report = User::of(&consul, Some(&token)).passes_after("").await?;
    ensure!(expect_finding(&report, "observe", "warn", "").is_err(), "{report:#}");
    Ok(())
}

#[tokio::test]
async fn the_state_file_is_configured_by_one_command() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let (weightd, user) = beside_weightd(&consul, Settings::new(&consul, &haproxy)).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let command = hint(&user.passes_after("").await?, "state file")?;

    // The same command without root: without units, and with the haproxy.cfg of this test.
    let cfg = haproxy.dir().join("copy.cfg");
    fs::write(
        &cfg,
        format!(
            "global\n    maxconn 100\n\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n\n{}",
            backend("app", 100, 0)
        ),
    )?;
    let command = command.replace("sudo ", "").replace("systemctl", "true");
    let command = command.replace("/etc/haproxy/haproxy.cfg", &cfg.display().to_string());
    let output = user.runs(&command).await?;
    ensure!(output.status.success(), "{command}: {output:?}");

    let text = fs::read_to_string(&cfg)?;
    ensure!(
        text.contains("\n    server-state-file ") && text.contains("\n    load-server-state-from-file global"),
        "{text}"
    );
    let valid = Command::new(program::server("haproxy")?).arg("-c").arg("-f").arg(&cfg).output().await?;
    let stderr = String::from_utf8_lossy(&valid.stderr);
    // HAProxy has no listener here, and weightd creates the file only after its restart.
    ensure!(!stderr.contains("[ALERT]") && stderr.contains("Can't open global server state file"), "{valid:?}");
    let mut check = Command::new(program::binary("weightd")?);
    program::without_consul(&mut check);
    let checked = check.arg("--check").arg("--config").arg(weightd.dir().join("weightd.toml")).output().await?;
    ensure!(checked.status.success(), "{checked:?}");
    Ok(())
}
