//! The basis of `docs/security.md`: data from Consul stays text, and weightd sends only a few commands to HAProxy.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::{
    common::{SOON, backend, becomes, document, key, metric, put, servers},
    harness::{Haproxy, eventually, runtime, weightd::Settings},
    tap::Tap,
};

/// Names and values that would be commands if a program executed them.
const HOSTILE: [(&str, &str); 6] = [
    ("app;disable server app", r#"{"weights":{"blue":1}}"#),
    ("app shutdown sessions", r#"{"weights":{"blue":1}}"#),
    ("bad1", r#"{"weights":{"blue;shutdown frontend app":1}}"#),
    ("bad2", r#"{"weights":{"blue\nclear counters all":1}}"#),
    ("bad3", r#"{"weights":{"blue":"1; disable frontend app"}}"#),
    ("bad4", r##"{"weights":{"@1 blue":1,"#1":2}}"##),
];

#[tokio::test]
async fn weightd_sends_only_a_few_commands_to_haproxy_for_any_data_in_consul() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    let tap = Tap::start(&haproxy)?;
    for (name, value) in HOSTILE {
        consul.put(&key(name), value).await?;
    }
    put(&consul, "app", 70, 30).await?;
    let settings = Settings::without_haproxy(&consul.address()).haproxy("haproxy", &tap.address());
    let settings = settings.set("reconcile.resync", "1s");
    let weightd = settings.start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    // All actions of weightd: drift, a reload of HAProxy, a pause, a reload of the configuration.
    haproxy.set_weight_by_hand("app", "green", 99).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    haproxy.reload(&backend("app", 0, 100)).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    eventually(SOON, "the hostile keys are rejected", async || {
        let rejected = metric(&weightd, "weightd_rejected_keys", "").await?;
        ensure!(usize::try_from(rejected)? == HOSTILE.len(), "{rejected}");
        Ok(())
    })
    .await?;

    let commands = tap.commands();
    let known = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["show", "info" | "table"] | ["show", "cli", "level"] | ["show", "servers", "state", "app"] => true,
            ["show", "stat", id, "6", "-1"] => id.parse::<u32>().is_ok(),
            ["set", "server", "app/blue" | "app/green", "weight", weight] => {
                weight.parse::<u16>().is_ok_and(|w| w <= 256)
            }
            _ => false,
        }
    };
    let others: Vec<_> = commands.iter().filter(|command| !known(command)).collect();
    assert!(others.is_empty(), "{others:#?}");
    for word in ["show info", "show cli level", "show servers state app", "show table", "set server app/blue weight 70"]
    {
        assert!(commands.iter().any(|command| command == word), "no {word} was sent: {commands:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn data_from_consul_moves_no_cursor_and_forges_no_log_line() -> anyhow::Result<()> {
    for format in ["text", "json", "journal"] {
        let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
        let forged = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{202e}\0";
        let value = json!({ "weights": { "blue": 70, "green": 30 }, "by": forged, "reason": forged, forged: 1 });
        consul.put(&key("app"), value.to_string()).await?;
        consul.put(&key("bad"), json!({ "weights": { forged: 1 } }).to_string()).await?;
        let weightd = Settings::new(&consul, &haproxy).set("log.format", format).start().await?;
        becomes(&haproxy, "app", 70, 30).await?;
        eventually(SOON, "the fault is logged", async || {
            let log = weightd.log();
            ensure!(log.contains("forged") && log.contains("rejected"), "{log}");
            Ok(())
        })
        .await?;
        let log = weightd.log();
        let control = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
        assert!(!log.contains(control), "{format}: {log:?}");
        assert!(log.lines().all(|line| !line.starts_with("2026-01-01T00:00:00Z")), "{format}: {log}");
        // Also not in the output of weightctl.
        for arguments in [&["get", "app"][..], &["list"]] {
            let output = consul.weightctl(arguments).await?;
            let shown = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
            assert!(shown.contains("forged"), "{arguments:?}: {shown}");
            assert!(!shown.contains(control), "{shown:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_of_level_user_can_change_maps_but_no_weight() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let map = folder.path().join("users.map");
    fs::write(&map, "alice blue\n")?;
    let body = format!(
        "global\n    stats socket \"${{ADMIN_SOCKET}}.user\" mode 600 level user\n\
         backend app\n    use-server green if {{ req.hdr(X-User),map_str({}) -m str green }}\n\
         \x20   server blue 127.0.0.1:9 weight 100\n    server green 127.0.0.1:9 weight 0\n",
        map.display()
    );
    let haproxy = Haproxy::start(&body).await?;
    let user = haproxy.dir().join("admin.sock.user");
    let denied = runtime::command(&user, "set server app/blue weight 0").await?;
    assert!(denied.contains("Permission denied"), "{denied}");
    let id = format!("set map {} alice green", map.display());
    let answer = runtime::command(&user, &id).await?;
    assert_eq!(answer.trim(), "", "HAProxy protects maps now: correct docs/security.md");
    let shown = runtime::command(&user, &format!("show map {}", map.display())).await?;
    assert!(shown.contains("alice green"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn the_local_socket_is_only_for_its_user_and_group_and_tcp_accepts_no_writes() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    consul.put(&key("app"), document(70, 30)).await?;
    let weightd = Settings::new(&consul, &haproxy).start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let socket = weightd.dir().join("run/weightd.sock");
    let mode = fs::metadata(&socket).with_context(|| socket.display().to_string())?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let http = crate::harness::http().timeout(Duration::from_secs(5)).build()?;
    for path in ["v1/pause", "v1/resume", "v1/status", "metrics"] {
        let answer = http.post(format!("{}/{path}", weightd.address())).body(r#"{"for_seconds":60}"#).send().await?;
        assert!([404, 405].contains(&answer.status().as_u16()), "{path}: {}", answer.status());
    }
    Ok(())
}
