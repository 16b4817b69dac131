//! Pauses: weightd sets no weight of a paused backend until the pause ends.

use std::{
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    common::{
        A_WHILE, SOON, backend, becomes, consul_is, converged, instance, is, lines, metric, put, reason, servers,
        state, stays,
    },
    harness::{
        Consul, Haproxy, Weightd, always, eventually,
        weightd::{Settings, weightctl},
    },
};

fn socket(weightd: &Weightd) -> PathBuf {
    weightd.dir().join("run/weightd.sock")
}

/// The exit code and the output of a weightctl.
#[derive(Debug)]
struct CtlOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs weightctl on the socket of this weightd, without a Consul.
async fn ctl(weightd: &Weightd, arguments: &[&str]) -> anyhow::Result<CtlOutput> {
    let socket = socket(weightd).display().to_string();
    let environment = [
        ("WEIGHTD_SOCKET", socket.as_str()),
        ("SUDO_USER", ""),
        ("USER", "alice"),
        ("CONSUL_HTTP_ADDR", "http://127.0.0.1:9"),
    ];
    let output = weightctl(&environment, arguments).await?;
    let text = |bytes| String::from_utf8(bytes).context("no text");
    Ok(CtlOutput { code: output.status.code(), out: text(output.stdout)?, err: text(output.stderr)? })
}

/// Runs weightctl and expects this exit code.
async fn ends(weightd: &Weightd, code: i32, arguments: &[&str]) -> anyhow::Result<CtlOutput> {
    let output = ctl(weightd, arguments).await?;
    ensure!(output.code == Some(code), "expected exit code {code} of {arguments:?}: {output:?}");
    Ok(output)
}

/// Two backends with the weights from Consul, and a resync every second.
async fn settled() -> anyhow::Result<(Consul, Haproxy, Weightd)> {
    let (consul, haproxy) = servers(&(backend("app", 0, 100) + &backend("other", 0, 100))).await?;
    put(&consul, "app", 100, 0).await?;
    put(&consul, "other", 100, 0).await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    becomes(&haproxy, "app", 100, 0).await?;
    becomes(&haproxy, "other", 100, 0).await?;
    converged(&weightd).await?;
    Ok((consul, haproxy, weightd))
}

/// How long a test watches that something does not happen that a resync every second would do.
const WATCH_TIME: Duration = Duration::from_millis(2500);

async fn stays_paused(haproxy: &Haproxy, backend: &str, blue: u32, green: u32) -> anyhow::Result<()> {
    always(WATCH_TIME, "the weight is not changed", async || is(haproxy, backend, blue, green).await).await
}

#[tokio::test]
async fn a_paused_node_sets_no_weight_until_it_is_resumed() -> anyhow::Result<()> {
    let (consul, mut haproxy, mut weightd) = settled().await?;
    ends(&weightd, 0, &["pause", "--local", "--for", "30m", "--reason", "works on green"]).await?;
    let words = ["INFO", "paused", "backend=all", "by=alice", "for_seconds=1800", "uid=", "works on green"];
    eventually(SOON, "the pause is logged", async || {
        ensure!(lines(&weightd, &words).len() == 1, "{}", weightd.log());
        Ok(())
    })
    .await?;

    // A hand edit stays, a document is read but not accepted, a reload is not corrected.
    haproxy.set_weight_by_hand("app", "green", 33).await?;
    stays_paused(&haproxy, "app", 100, 33).await?;
    put(&consul, "app", 80, 20).await?;
    stays_paused(&haproxy, "app", 100, 33).await?;
    let app = state(&weightd, "app", "paused").await?;
    assert_eq!((&app["desired"]["weights"]["green"], &app["accepted"]["weights"]["green"]), (&json!(20), &json!(0)));
    assert_eq!((&app["paused"]["by"], &app["paused"]["reason"]), (&json!("alice"), &json!("works on green")), "{app}");
    haproxy.reload_again().await?;
    stays_paused(&haproxy, "app", 0, 100).await?;

    // The pause survives a restart and a crash of weightd.
    weightd.restart().await?;
    stays_paused(&haproxy, "app", 0, 100).await?;
    weightd.kill().await?;
    assert!(socket(&weightd).exists(), "the socket file exists after the end");
    weightd.start_again().await?;
    eventually(SOON, "weightd has read HAProxy again", async || {
        let app = weightd.backend("app").await?;
        ensure!(app["state"] == "paused" && app["servers"][0]["observed"] == 0, "{app}");
        ensure!(app["drift_corrections"] == 0, "{app}");
        Ok(())
    })
    .await?;
    let node = instance(&weightd, 0).await?;
    let left = node["paused"]["for_seconds"].as_f64().context("not paused")?;
    assert!((1_000.0..=1_800.0).contains(&left), "{node}");
    assert_eq!((&node["converged"], &node["paused"]["reason"]), (&json!(false), &json!("works on green")));
    assert_eq!(metric(&weightd, "weightd_paused_backends", "").await?, 2);
    assert_eq!(metric(&weightd, "weightd_backend_reasons", ",reason=\"paused\"").await?, 2);
    let api = weightd.address();
    let shown = ends(&weightd, 3, &["status", "--local", "--api", &api]).await?.out;
    assert!(shown.contains("weightd  paused     for 2") && shown.contains("by alice, works on green"), "{shown}");

    let start = Instant::now();
    let output = ends(&weightd, 0, &["resume", "--local", "-o", "json"]).await?;
    let answer: Value = serde_json::from_str(&output.out)?;
    assert_eq!(answer, json!({"instances": ["haproxy"], "backend": null, "lifted": 1}));
    haproxy.until_weights("app", &[("blue", 80), ("green", 20)], Duration::from_secs(2)).await?;
    becomes(&haproxy, "other", 100, 0).await?;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    converged(&weightd).await?;
    assert_eq!(metric(&weightd, "weightd_drift_corrections_total", "").await?, 0, "no drift was counted");
    assert_eq!(metric(&weightd, "weightd_weight_changes_total", ",why=\"resume\"").await?, 4);
    assert_eq!(metric(&weightd, "weightd_paused_backends", "").await?, 0);
    let words = ["INFO", "resumed", "why=resumed", "by=alice", "paused_by=alice", "works on green"];
    assert_eq!(lines(&weightd, &words).len(), 1, "{}", weightd.log());
    let output = ends(&weightd, 0, &["resume", "--local"]).await?;
    assert!(output.err.contains("nothing to resume"), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_pause_of_one_backend_affects_no_other_and_ends_by_itself() -> anyhow::Result<()> {
    let (_consul, haproxy, mut weightd) = settled().await?;
    let start = Instant::now();
    let output = ends(&weightd, 0, &["pause", "app", "--local", "--for", "8s", "-o", "json"]).await?;
    let answer: Value = serde_json::from_str(&output.out)?;
    assert_eq!(answer, json!({"instances": ["haproxy"], "backend": "app", "for_seconds": 8}));
    assert!(output.err.contains("`weightctl resume app`"), "{output:?}");
    for app in ["app", "other"] {
        haproxy.set_weight_by_hand(app, "green", 33).await?;
    }
    becomes(&haproxy, "other", 100, 0).await?;
    reason(&weightd, "app", "paused").await?;
    assert_eq!(metric(&weightd, "weightd_paused_backends", "").await?, 1);
    assert_eq!(instance(&weightd, 0).await?["paused"], Value::Null);
    // The time of the pause continues while weightd does not run.
    weightd.restart().await?;
    always(Duration::from_secs(7).saturating_sub(start.elapsed()), "the weight is not changed", async || {
        is(&haproxy, "app", 100, 33).await
    })
    .await?;
    haproxy.until_weights("app", &[("blue", 100), ("green", 0)], Duration::from_secs(4)).await?;
    assert!(start.elapsed() >= Duration::from_secs(8), "{:?}", start.elapsed());
    converged(&weightd).await?;
    assert_eq!(weightd.backend("app").await?["paused"], Value::Null);
    assert!(weightd.logs_contain(&["resumed", "why=expired", "backend=app"]), "{}", weightd.log());
    assert_eq!(weightd.backend("app").await?["drift_corrections"], 0);
    // After the pause, the difference is drift again.
    haproxy.set_weight_by_hand("app", "green", 33).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    eventually(SOON, "the drift is counted", async || {
        let app = weightd.backend("app").await?;
        ensure!(app["drift_corrections"] == 1, "{app}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pause_works_without_consul() -> anyhow::Result<()> {
    let (mut consul, haproxy, mut weightd) = settled().await?;
    consul.kill().await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    ends(&weightd, 0, &["pause", "--local", "--for", "1h"]).await?;
    haproxy.set_weight_by_hand("app", "green", 33).await?;
    stays_paused(&haproxy, "app", 100, 33).await?;
    weightd.restart().await?;
    // Without Consul, the state on disk is enforced, but not during a pause.
    always(Duration::from_secs(5), "the weight is not changed", async || is(&haproxy, "app", 100, 33).await).await?;
    ends(&weightd, 0, &["resume", "--local"]).await?;
    becomes(&haproxy, "app", 100, 0).await
}

#[tokio::test]
async fn invalid_names_and_durations_are_refused() -> anyhow::Result<()> {
    let (_consul, haproxy, weightd) = settled().await?;
    for (code, arguments, word) in [
        (0, "resume app", "nothing to resume"),
        (2, "pause", "--for"),
        (2, "pause --local --for 10", "unit"),
        (2, "pause --local --for 500ms", "1s"),
        (2, "pause --local --for 169h", "168h"),
        (2, "pause a;b --local --for 5m", "a;b"),
        (7, "pause ap --local --for 5m", "did you mean `app`?"),
        (7, "resume ap --local", "did you mean `app`?"),
        (7, "pause --local --for 5m --instance nginx", "haproxy"),
        (0, "resume app --local", "nothing to resume"),
        (0, "pause --local --for 5m", "all backends"),
        (7, "resume app --local", "run `weightctl resume`"),
    ] {
        let output = ends(&weightd, code, &arguments.split(' ').collect::<Vec<_>>()).await?;
        assert!(output.err.contains(word), "{word} of `{arguments}`: {output:?}");
        assert_eq!(output.out, "", "{arguments}");
    }
    let escape = ends(&weightd, 7, &["pause", "--local", "--for", "5m", "--reason", "a\u{1b}[31m"]).await?;
    assert!(escape.err.contains("control character"), "{escape:?}");
    ends(&weightd, 0, &["resume", "--local"]).await?;

    // The request bodies themselves.
    let client = crate::harness::http().unix_socket(socket(&weightd)).build()?;
    let post = async |path: &str, body: String| {
        let answer = client.post(format!("http://localhost{path}")).body(body).send().await?;
        Ok::<_, anyhow::Error>((answer.status().as_u16(), answer.text().await?))
    };
    let long = json!({ "for_seconds": 60, "reason": "x".repeat(5000) }).to_string();
    for (body, code, word) in [
        ("", 400, "EOF"),
        ("{}", 400, "for_seconds"),
        (r#"{"for_seconds": 60, "forever": true}"#, 400, "forever"),
        (r#"{"for_seconds": 0}"#, 400, "week"),
        (r#"{"for_seconds": 604801}"#, 400, "week"),
        (r#"{"for_seconds": -1}"#, 400, "-1"),
        (r#"{"for_seconds": 60, "backend": "a b"}"#, 400, "a b"),
        (long.as_str(), 413, "limit"),
    ] {
        let (status, text) = post("/v1/pause", body.to_owned()).await?;
        assert!(status == code && text.contains(word), "{body}: {status} {text}");
        let problem: Value = serde_json::from_str(&text)?;
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{problem}");
    }
    assert_eq!(post("/v1/resume", r#"{"for": 1}"#.to_owned()).await?.0, 400);
    // None of these paused anything.
    haproxy.set_weight_by_hand("app", "green", 33).await?;
    becomes(&haproxy, "app", 100, 0).await
}

#[tokio::test]
async fn only_the_socket_accepts_writes_and_only_from_its_user_and_group() -> anyhow::Result<()> {
    let (_consul, haproxy, mut weightd) = settled().await?;
    let path = socket(&weightd);
    let mode = async || {
        eventually(SOON, "the socket exists", async || {
            let found = std::fs::symlink_metadata(&path)?;
            ensure!(found.file_type().is_socket(), "no socket");
            Ok(found.mode() & 0o777)
        })
        .await
    };
    assert_eq!(mode().await?, 0o660);
    let tcp = crate::harness::http().build()?;
    for route in ["/v1/pause", "/v1/resume"] {
        let request = tcp.post(format!("{}{route}", weightd.address())).body(r#"{"for_seconds": 60}"#);
        assert_eq!(request.send().await?.status(), 404, "{route} over TCP");
    }
    // Both addresses serve the other paths.
    let local = crate::harness::http().unix_socket(path.clone()).build()?;
    assert_eq!(local.get("http://localhost/v1/status").send().await?.status(), 200);
    assert_eq!(local.get("http://localhost/v1/pause").send().await?.status(), 405);

    weightd.stop().await?;
    assert!(!path.exists(), "the socket is deleted at the end of weightd");
    let output = ends(&weightd, 1, &["resume", "--local"]).await?;
    assert!(output.err.contains("no weightd listens") && output.err.contains("hint: "), "{output:?}");

    // Another file at the path stays, and weightd works without a socket.
    for link in [true, false] {
        if link {
            symlink(haproxy.socket(), &path)?;
        } else {
            std::fs::remove_file(&path)?;
            std::fs::write(&path, "precious")?;
        }
        weightd.start_again().await?;
        converged(&weightd).await?;
        assert!(weightd.logs_contain(&["ERROR", "exists and is not a socket", "hint="]), "{}", weightd.log());
        weightd.stop().await?;
    }
    assert_eq!(std::fs::read_to_string(&path)?, "precious");
    stays(&haproxy, "app", 100, 0).await?;
    std::fs::remove_file(&path)?;

    weightd.start_again().await?;
    assert_eq!(mode().await?, 0o660);
    if rustix::process::geteuid().is_root() {
        // Root may open every file. The test needs root to run as another user.
        std::fs::set_permissions(weightd.dir(), std::fs::Permissions::from_mode(0o755))?;
        let output = without_rights(&weightd).await?;
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.err.contains("may not open") && output.err.contains("with sudo"), "{output:?}");
    }
    Ok(())
}

/// Runs `weightctl resume --local` as a user without rights.
async fn without_rights(weightd: &Weightd) -> anyhow::Result<CtlOutput> {
    // The other user may not be able to read the build directory.
    let program = weightd.dir().join("weightctl");
    std::fs::copy(crate::harness::program::binary("weightctl")?, &program)?;
    let output = tokio::process::Command::new("/usr/bin/setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["resume", "--local", "--socket"])
        .arg(socket(weightd))
        .output()
        .await?;
    let text = |bytes| String::from_utf8(bytes).context("no text");
    Ok(CtlOutput { code: output.status.code(), out: text(output.stdout)?, err: text(output.stderr)? })
}

#[tokio::test]
async fn a_pause_that_cannot_be_stored_is_in_force_and_reports_the_error() -> anyhow::Result<()> {
    let (_consul, haproxy, weightd) = settled().await?;
    // A directory in place of the temporary file.
    let way = weightd.dir().join("state/pauses.new");
    std::fs::create_dir(&way)?;
    let output = ends(&weightd, 1, &["pause", "--local", "--for", "5m"]).await?;
    assert!(output.err.contains("the pause is in force, but") && output.err.contains("state_dir"), "{output:?}");
    haproxy.set_weight_by_hand("app", "green", 33).await?;
    stays_paused(&haproxy, "app", 100, 33).await?;
    assert_eq!(metric(&weightd, "weightd_state_persist_errors_total", "").await?, 1);
    std::fs::remove_dir(&way)?;
    ends(&weightd, 0, &["pause", "--local", "--for", "5m"]).await?;
    ends(&weightd, 0, &["resume", "--local"]).await?;
    becomes(&haproxy, "app", 100, 0).await
}

#[tokio::test]
async fn haproxies_are_paused_together_or_individually() -> anyhow::Result<()> {
    let (consul, edge) = servers(&backend("app", 0, 100)).await?;
    let inner = Haproxy::start(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let weightd = Settings::without_haproxy(&consul.address())
        .haproxy("edge", &edge.address())
        .haproxy("inner", &inner.address())
        .set("reconcile.resync", "1s")
        .start()
        .await?;
    for haproxy in [&edge, &inner] {
        becomes(haproxy, "app", 100, 0).await?;
    }
    ends(&weightd, 0, &["pause", "--local", "--for", "5m", "--instance", "edge"]).await?;
    for haproxy in [&edge, &inner] {
        haproxy.set_weight_by_hand("app", "green", 33).await?;
    }
    becomes(&inner, "app", 100, 0).await?;
    always(A_WHILE, "the weight is not changed", async || is(&edge, "app", 100, 33).await).await?;
    let output = ends(&weightd, 0, &["pause", "app", "--local", "--for", "5m"]).await?;
    assert!(output.err.contains("edge, inner"), "{output:?}");
    inner.set_weight_by_hand("app", "green", 33).await?;
    stays_paused(&inner, "app", 100, 33).await?;
    ends(&weightd, 0, &["resume", "--local"]).await?;
    for haproxy in [&edge, &inner] {
        becomes(haproxy, "app", 100, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_run_with_once_sets_no_weight_of_a_paused_backend() -> anyhow::Result<()> {
    let (_consul, haproxy, mut weightd) = settled().await?;
    ends(&weightd, 0, &["pause", "app", "--local", "--for", "5m"]).await?;
    weightd.stop().await?;
    for app in ["app", "other"] {
        haproxy.set_weight_by_hand(app, "green", 33).await?;
    }
    let status = tokio::process::Command::new(crate::harness::program::binary("weightd")?)
        .arg("--once")
        .arg("--config")
        .arg(weightd.dir().join("weightd.toml"))
        .stderr(std::process::Stdio::null())
        .status()
        .await?;
    assert_eq!(status.code(), Some(3), "not converged");
    is(&haproxy, "other", 100, 0).await?;
    is(&haproxy, "app", 100, 33).await
}
