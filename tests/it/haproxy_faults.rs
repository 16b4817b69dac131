//! Every fault of a HAProxy is reported with a remedy and retried without repeated log messages. It affects no other
//! HAProxy.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::Duration,
};

use anyhow::ensure;
use rustix::process::{Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::Instant,
};

use crate::{
    common::{
        A_WHILE, SOON, backend, becomes, converged, haproxy_is, instance, is, lines, logged, metric, put, reason,
        servers, state, stays,
    },
    harness::{Consul, Haproxy, Weightd, always, config, eventually, haproxy::version, runtime, weightd::Settings},
};

/// Waits until a HAProxy of weightd is down for this reason. Then watches for a while that weightd does not log it
/// again and again.
async fn is_down_and_logged_once(weightd: &Weightd, number: usize, why: &str) -> anyhow::Result<()> {
    haproxy_is(weightd, number, "down", Some(why)).await?;
    let words = format!("reason={why}");
    let logged_once = async || {
        let count = lines(weightd, &[" WARN", "HAProxy cannot be used", &words, "hint="]).len();
        ensure!(count == 1, "{why} is logged {count} times: {}", weightd.log());
        Ok(())
    };
    always(A_WHILE, "it is logged once", logged_once).await
}

#[tokio::test]
async fn a_haproxy_that_starts_after_weightd_gets_its_weights() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    haproxy.stop().await?;
    // A process that ended leaves its socket file.
    ensure!(haproxy.socket().exists(), "this HAProxy removes its socket");
    let weightd = Weightd::start(&consul, &haproxy).await?;
    is_down_and_logged_once(&weightd, 0, "refused").await?;
    fs::remove_file(haproxy.socket())?;
    is_down_and_logged_once(&weightd, 0, "no_socket").await?;
    assert_eq!(weightd.code("/ready").await?, 503);
    assert_eq!(metric(&weightd, "weightd_haproxy_up", "").await?, 0);
    assert!(metric(&weightd, "weightd_haproxy_errors_total", ",reason=\"no_socket\"").await? > 1);

    haproxy.start_again().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    haproxy_is(&weightd, 0, "up", None).await?;
    assert_eq!(weightd.code("/ready").await?, 200);
    assert_eq!(metric(&weightd, "weightd_haproxy_up", "").await?, 1);
    assert_eq!(lines(&weightd, &[" INFO", "HAProxy can be used again"]).len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_socket_without_permission_is_reported_and_used_after_the_permission_is_granted() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mode = |mode| fs::set_permissions(haproxy.socket(), fs::Permissions::from_mode(mode));
    mode(0o000)?;
    let weightd = Settings::new(&consul, &haproxy).bound_by_modes().start().await?;
    is_down_and_logged_once(&weightd, 0, "permission_denied").await?;
    let status = haproxy_is(&weightd, 0, "down", Some("permission_denied")).await?;
    assert!(status["remedy"].as_str().is_some_and(|remedy| remedy.contains("group")), "{status}");
    mode(0o600)?;
    becomes(&haproxy, "app", 70, 30).await
}

/// Answers every connection with the banner of another daemon.
pub(crate) fn banner(path: &Path) -> anyhow::Result<()> {
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The client may have disconnected.
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    Ok(())
}

#[tokio::test]
async fn a_socket_of_another_program_is_reported_and_the_other_haproxy_works() -> anyhow::Result<()> {
    let sockets = "global\n\
                   \x20   stats socket \"${ADMIN_SOCKET}.operator\" mode 600 level operator\n\
                   \x20   stats socket \"${ADMIN_SOCKET}.user\" mode 600 level user\n";
    let (consul, haproxy) = servers(&(sockets.to_owned() + &backend("app", 100, 0))).await?;
    put(&consul, "app", 70, 30).await?;
    let path = |name: &str| haproxy.dir().join(name);
    fs::write(path("file"), "")?;
    symlink(haproxy.socket(), path("link"))?;
    banner(&path("banner"))?;
    let _listens = UnixListener::bind(path("silent"))?;
    let faults = [
        ("file", "not_a_socket"),
        ("link", "not_a_socket"),
        ("banner", "not_haproxy"),
        ("silent", "timeout"),
        ("admin.sock.operator", "not_admin"),
        ("admin.sock.user", "not_admin"),
        ("master.sock", "not_haproxy"),
        ("none", "no_socket"),
    ];
    let mut settings = Settings::new(&consul, &haproxy);
    for (name, _) in faults {
        settings = settings.haproxy(name, &format!("unix:{}", path(name).display()));
    }
    let weightd = settings.start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    for (number, (name, why)) in faults.iter().enumerate() {
        haproxy_is(&weightd, number + 1, "down", Some(why)).await?;
        let name = format!("haproxy={name}");
        ensure!(lines(&weightd, &[" WARN", "hint=", &format!("reason={why}"), &name]).len() == 1, "{}", weightd.log());
    }
    put(&consul, "app", 50, 50).await?;
    becomes(&haproxy, "app", 50, 50).await?;
    let count = lines(&weightd, &["HAProxy cannot be used"]).len();
    always(A_WHILE, "nothing more is logged", async || {
        let now = lines(&weightd, &["HAProxy cannot be used"]).len();
        ensure!(now == count && count == faults.len(), "{now} lines, {count} before: {}", weightd.log());
        Ok(())
    })
    .await?;
    assert_eq!(fs::read(path("file"))?, b"", "nothing is written without a HAProxy");
    assert_eq!(weightd.code("/ready").await?, 503);
    Ok(())
}

#[tokio::test]
async fn several_processes_are_reported_if_haproxy_runs_with_nbproc() -> anyhow::Result<()> {
    let started = Haproxy::start(
        &("global
    nbthread 1
    nbproc 2
"
        .to_owned()
            + &backend("app", 100, 0)),
    )
    .await;
    if version()? >= (2, 5) {
        let refused = started.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(refused.contains("nbproc is not supported any more"), "{refused}");
        return Ok(());
    }
    let (consul, mut haproxy) = (Consul::start().await?, started?);
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    is_down_and_logged_once(&weightd, 0, "nbproc").await?;
    stays(&haproxy, "app", 100, 0).await?;
    haproxy.reload(&backend("app", 100, 0)).await?;
    becomes(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn a_hanging_worker_gets_one_request_at_a_time_and_recovers() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let files = format!("/proc/{}/fd", weightd.program().pid()?);
    let open = || Ok::<_, anyhow::Error>(fs::read_dir(&files)?.count());
    let before = open()?;
    let paused = haproxy.pause().await?;
    haproxy_is(&weightd, 0, "down", Some("timeout")).await?;
    // A change during that time does not block weightd and is not lost.
    put(&consul, "app", 50, 50).await?;
    let start = Instant::now();
    always(Duration::from_secs(3), "at most one connection", async || {
        let now = open()?;
        // Some connections for the commands of this test.
        ensure!(now <= before + 4, "{now} open files, {before} before");
        ensure!(weightd.code("/live").await? == 200, "weightd does not answer /live");
        Ok(())
    })
    .await?;
    assert!(start.elapsed() < Duration::from_secs(6), "weightd's API hung: {:?}", start.elapsed());
    assert!(lines(&weightd, &["reason=timeout"]).len() == 1, "{}", weightd.log());
    assert_eq!(weightd.code("/ready").await?, 503);
    drop(paused);
    becomes(&haproxy, "app", 50, 50).await?;
    haproxy_is(&weightd, 0, "up", None).await?;
    assert_eq!(instance(&weightd, 0).await?["haproxy"]["processes_seen"], 1);
    assert_eq!(weightd.backend("app").await?["drift_corrections"], 0);
    Ok(())
}

#[tokio::test]
async fn exhausted_stats_maxconn_is_reported_and_recovers() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    // HAProxy's default is 10 connections. More connections wait in the kernel's backlog.
    let mut idle = Vec::new();
    for _ in 0..12 {
        let connect = async || Ok(UnixStream::connect(haproxy.socket()).await?);
        idle.push(eventually(SOON, "HAProxy accepts another connection", connect).await?);
    }
    let status = haproxy_is(&weightd, 0, "down", Some("timeout")).await?;
    assert!(status["remedy"].as_str().is_some_and(|remedy| remedy.contains("stats maxconn")), "{status}");
    // Until the backlog is full.
    while let Ok(stream) = UnixStream::connect(haproxy.socket()).await {
        idle.push(stream);
    }
    let status = haproxy_is(&weightd, 0, "down", Some("busy")).await?;
    assert!(status["remedy"].as_str().is_some_and(|remedy| remedy.contains("stats maxconn")), "{status}");
    put(&consul, "app", 50, 50).await?;
    drop(idle);
    becomes(&haproxy, "app", 50, 50).await?;
    haproxy_is(&weightd, 0, "up", None).await.map(drop)
}

#[tokio::test]
async fn a_failed_reload_keeps_the_old_worker_and_is_not_reported_as_a_fault() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 0, 100)).await?;
    put(&consul, "app", 100, 0).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    converged(&weightd).await?;
    let pid = haproxy.pid().await?;
    logged(&weightd, 2, &["weight set"]).await?;
    let quiet = lines(&weightd, &[""]).len();
    haproxy.write("this is no configuration\n")?;
    kill_process(haproxy.master_pid()?, Signal::USR2)?;
    let master = haproxy.dir().join("master.sock");
    // Before 2.5, the master lists the worker that it keeps among the old workers.
    let refused = if version()? < (2, 5) { "[was: 1]" } else { "[failed: 1]" };
    eventually(SOON, "HAProxy has rejected the configuration", async || {
        let processes = runtime::command(&master, "show proc").await?;
        ensure!(processes.contains(refused), "{processes}");
        Ok(())
    })
    .await?;
    stays(&haproxy, "app", 100, 0).await?;
    assert_eq!(haproxy.pid().await?, pid);
    assert_eq!(lines(&weightd, &[""]).len(), quiet, "{}", weightd.log());
    assert_eq!(instance(&weightd, 0).await?["haproxy"]["processes_seen"], 1);
    assert_eq!(weightd.code("/ready").await?, 200);
    haproxy.reload(&backend("app", 0, 100)).await?;
    becomes(&haproxy, "app", 100, 0).await
}

#[tokio::test]
async fn a_missing_backend_or_server_is_unmatched_until_haproxy_has_it() -> anyhow::Result<()> {
    let both = backend("app", 100, 0) + &backend("other", 100, 0);
    let (consul, mut haproxy) = servers(&both).await?;
    put(&consul, "app", 70, 30).await?;
    put(&consul, "other", 70, 30).await?;
    put(&consul, "elsewhere", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    becomes(&haproxy, "other", 70, 30).await?;
    reason(&weightd, "elsewhere", "unmatched_backend").await?;
    // This is no fault: not every HAProxy has every backend.
    converged(&weightd).await?;

    let servers = [("blue", 9, 100), ("gold", 9, 0)];
    haproxy.reload(&(config::backend("app", &[], &servers, "") + &backend("renamed", 100, 0))).await?;
    state(&weightd, "other", "unmatched").await?;
    let missing = reason(&weightd, "app", "unmatched_server").await?;
    assert!(missing["detail"].as_str().is_some_and(|detail| detail.contains("green")), "{missing}");
    let unnamed = reason(&weightd, "app", "unnamed").await?;
    assert!(unnamed["detail"].as_str().is_some_and(|detail| detail.contains("gold")), "{unnamed}");
    haproxy.until_weights("app", &[("blue", 70), ("gold", 0)], SOON).await?;
    is(&haproxy, "renamed", 100, 0).await?;

    haproxy.reload(&both).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    becomes(&haproxy, "other", 70, 30).await?;
    state(&weightd, "other", "converged").await?;
    assert!(lines(&weightd, &["reason=unmatched_backend", "backend=elsewhere"]).len() <= 3, "once for each process");
    Ok(())
}

#[tokio::test]
async fn a_server_is_identified_by_its_backend_and_its_name() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&(backend("one", 100, 0) + &backend("two", 100, 0))).await?;
    put(&consul, "one", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "one", 70, 30).await?;
    is(&haproxy, "two", 100, 0).await?;
    put(&consul, "two", 1, 2).await?;
    becomes(&haproxy, "two", 1, 2).await?;
    converged(&weightd).await?;
    is(&haproxy, "one", 70, 30).await
}

#[tokio::test]
async fn a_deleted_server_is_unmatched_and_an_added_server_gets_its_weight() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let answer = haproxy.command("set server app/green state maint;del server app/green").await?;
    if version()? < (2, 6) {
        // Before 2.4, servers change only with a reload. The attempt changes nothing.
        ensure!(answer.contains("Unknown command") || answer.contains("experimental"), "{answer}");
        put(&consul, "app", 60, 40).await?;
        becomes(&haproxy, "app", 60, 40).await?;
        return converged(&weightd).await;
    }
    ensure!(answer.contains("deleted"), "{answer}");
    reason(&weightd, "app", "unmatched_server").await?;
    put(&consul, "app", 60, 40).await?;
    haproxy.until_weights("app", &[("blue", 60)], SOON).await?;
    let answer = haproxy.command("add server app/green 127.0.0.1:9 weight 1").await?;
    ensure!(answer.contains("registered"), "{answer}");
    becomes(&haproxy, "app", 60, 40).await?;
    converged(&weightd).await
}

#[tokio::test]
async fn ready_fails_while_haproxy_is_down() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    let ready = async |code| {
        eventually(SOON, &format!("/ready is {code}"), async || {
            let now = weightd.code("/ready").await?;
            ensure!(now == code, "{now}");
            Ok(())
        })
        .await
    };
    ready(200).await?;
    haproxy.stop().await?;
    ready(503).await?;
    haproxy.start_again().await?;
    ready(200).await?;
    is(&haproxy, "app", 70, 30).await
}

#[tokio::test]
async fn a_socket_in_the_abstract_namespace_works() -> anyhow::Result<()> {
    let name = format!("weightd-test-{}", std::process::id());
    let body = format!("global\n    stats socket abns@{name} level admin\n{}", backend("app", 100, 0));
    let (consul, mut haproxy) = servers(&body).await?;
    put(&consul, "app", 70, 30).await?;
    let address = format!("abns@{name}");
    let weightd = Settings::without_haproxy(&consul.address()).haproxy("haproxy", &address).start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    assert_eq!(instance(&weightd, 0).await?["address"], address.as_str());
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    haproxy.stop().await?;
    haproxy_is(&weightd, 0, "down", Some("refused")).await.map(drop)
}
