//! weightd as a program: flags and exit codes, readiness, signals, what systemd is told, and what is never logged.

use std::{ffi::OsStr, fs, path::Path, process::Output, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{net::UnixDatagram, process::Command, time::timeout};

use crate::{
    common::{A_WHILE, SOON, backend, becomes, consul_is, converged, document, is, key, lines, put, servers, stays},
    harness::{Consul, Haproxy, PATIENCE, Weightd, always, consul, eventually, program, weightd::Settings},
};

/// Runs weightd to its end.
async fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
    let mut command = Command::new(program::binary("weightd")?);
    program::without_consul(&mut command);
    command.args(arguments).env_remove("WEIGHTD_LOG").stdin(std::process::Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.context("weightd did not end")?.context("cannot run weightd")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A configuration file for these two, in a directory of its own.
fn configured(consul: &str, haproxy: &str) -> anyhow::Result<(TempDir, String)> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "state_dir = {:?}\nrun_dir = {:?}\n[consul]\naddress = {consul:?}\n[api]\nlisten = \"off\"\n\
         [[haproxy]]\naddress = {haproxy:?}\n",
        at("state"),
        at("run"),
    );
    let file = at("weightd.toml");
    fs::write(&file, config)?;
    Ok((dir, file))
}

#[tokio::test]
async fn check_accepts_what_is_right_and_refuses_the_rest_with_file_line_and_suggestion() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("weightd.toml");
    let check = async |config: &str| {
        fs::write(&file, config)?;
        run(["--check".as_ref(), "--config".as_ref(), file.as_os_str()]).await
    };
    let good = check("[reconcile]\nresync = \"10s\"\n").await?;
    assert_eq!(code(&good), Some(0), "{}", said(&good));
    for (config, line, words) in [
        ("# one\n[reconcile]\nresnyc = \"10s\"\n", 3, "did you mean `resync`?"),
        ("[reconcile]\nresync = 10\n", 2, "resync"),
        ("[reconcile]\nresync = \"10 parsecs\"\n", 2, "resync"),
        ("[reconcile]\nresync = \"1ms\"\n", 2, "1s"),
        ("mode = \"obsevre\"\n", 1, "did you mean `observe`?"),
        ("\n\n[consul\n", 3, ""),
        ("[[haproxy]]\naddress = \"tcp:10.0.0.1:9999\"\n", 2, "allow_remote"),
        ("[[haproxy]]\nname = \"a\"\naddress = \"haproxy.sock\"\n", 3, "unix:/"),
    ] {
        let output = check(config).await?;
        let said = said(&output);
        assert_eq!(code(&output), Some(64), "{config}: {said}");
        assert!(said.contains(&format!("{}:{line}: ", file.display())), "{config}: {said}");
        assert!(said.contains(words), "{config}: {said}");
        assert!(output.stdout.is_empty(), "{said}");
    }
    fs::remove_file(&file)?;
    let missing = run(["--config".as_ref(), file.as_os_str()]).await?;
    assert_eq!(code(&missing), Some(64), "{}", said(&missing));
    Ok(())
}

#[tokio::test]
async fn the_default_configuration_is_printed_and_valid() -> anyhow::Result<()> {
    let printed = run(["--print-default-config"]).await?;
    assert_eq!(code(&printed), Some(0));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("weightd.toml");
    fs::write(&file, &printed.stdout)?;
    let output = run(["--check".as_ref(), "--config".as_ref(), file.as_os_str()]).await?;
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn once_says_by_its_exit_code_whether_all_is_as_consul_says() -> anyhow::Result<()> {
    let (mut consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let (_dir, file) = configured(&consul.address(), &haproxy.address())?;
    let once = async || run(["--once", "--config", &file]).await;
    let output = once().await?;
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    is(&haproxy, "app", 70, 30).await?;
    consul.put(&key("app"), r#"{"weights":{}}"#).await?;
    let output = once().await?;
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    is(&haproxy, "app", 70, 30).await?;
    // Without Consul, what lies on disk is enforced, and that is not what Consul says.
    haproxy.set_weight_by_hand("app", "green", 99).await?;
    consul.stop().await?;
    let output = once().await?;
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    is(&haproxy, "app", 70, 30).await?;
    let (_dir, file) = configured(&consul.address(), "unix:/nonexistent/admin.sock")?;
    let output = run(["--once", "--config", &file]).await?;
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_changes_nothing_also_beside_a_running_weightd() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let (dir, file) = configured(&consul.address(), &haproxy.address())?;
    let output = run(["--dry-run", "--once", "--config", &file]).await?;
    let told = said(&output);
    assert_eq!(code(&output), Some(3), "{told}");
    let shown = told
        .lines()
        .any(|line| ["backend=app", "green 0 → 30", "blue 100 → 70"].iter().all(|words| line.contains(words)));
    assert!(shown, "{told}");
    is(&haproxy, "app", 100, 0).await?;
    let left = fs::read_dir(dir.path())?.count();
    assert_eq!(left, 1, "neither state nor lock");

    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    let own = weightd.dir().join("weightd.toml");
    let output = run(["--dry-run".as_ref(), "--once".as_ref(), "--config".as_ref(), own.as_os_str()]).await?;
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn in_mode_observe_nothing_is_ever_set_and_what_would_be_is_shown() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::new(&consul, &haproxy).set("mode", "observe").set("reconcile.resync", "1s").start().await?;
    let would = |words: &str| lines(&weightd, &[" INFO", "would set weights", "backend=app", words]).len();
    eventually(SOON, "it is logged", async || {
        ensure!(would("green 0 → 30") == 1, "{}", weightd.log());
        Ok(())
    })
    .await?;
    let status = weightd.backend("app").await?;
    assert!(status["would"].as_str().is_some_and(|plan| plan.contains("blue 100 → 70")), "{status}");
    assert_eq!(weightd.status().await?["mode"], "observe");
    stays(&haproxy, "app", 100, 0).await?;
    haproxy.reload_again().await?;
    stays(&haproxy, "app", 100, 0).await?;
    put(&consul, "app", 60, 40).await?;
    eventually(SOON, "it follows", async || {
        ensure!(would("green 0 → 40") == 1, "{}", weightd.log());
        Ok(())
    })
    .await?;
    assert_eq!(lines(&weightd, &["weight set"]), Vec::<String>::new());
    assert!(would("green 0 → 30") <= 2, "once for each process: {}", weightd.log());
    Ok(())
}

#[tokio::test]
async fn a_second_weightd_on_the_same_haproxy_leaves_with_75() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    let config = weightd.dir().join("weightd.toml");
    let second = run(["--config".as_ref(), config.as_os_str()]).await?;
    let told = said(&second);
    assert_eq!(code(&second), Some(75), "{told}");
    let pid = weightd.program().pid()?.to_string();
    assert!(told.contains("already drives") && told.contains(&format!("pid {pid}")), "{told}");
    weightd.program().check()?;
    // A lock file that was left behind is no lock.
    weightd.kill().await?;
    weightd.start_again().await
}

#[tokio::test]
async fn ready_is_earned_and_does_not_fall_because_of_consul() -> anyhow::Result<()> {
    let (mut consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let paused = consul.pause()?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    assert_eq!((weightd.code("/live").await?, weightd.code("/ready").await?), (200, 503));
    drop(paused);
    eventually(SOON, "it is ready", async || {
        let code = weightd.code("/ready").await?;
        ensure!(code == 200, "{code}");
        is(&haproxy, "app", 70, 30).await
    })
    .await?;
    consul.kill().await?;
    consul_is(&weightd, "held", Some("unreachable")).await?;
    always(A_WHILE, "it stays ready", async || {
        let codes = (weightd.code("/live").await?, weightd.code("/ready").await?);
        ensure!(codes == (200, 200), "{codes:?}");
        Ok(())
    })
    .await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    for path in ["/live", "/ready", "/metrics", "/v1/status"] {
        let answer = client.post(format!("{}{path}", weightd.address())).send().await?;
        assert_eq!(answer.status(), 405, "{path} is read-only");
    }
    Ok(())
}

/// What systemd would have been told, until `wanted` comes.
async fn told(socket: &UnixDatagram, wanted: &str) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    let listen = async {
        loop {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).await?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            all.extend(text.lines().map(str::to_owned));
            if all.iter().any(|line| line == wanted) {
                return anyhow::Ok(());
            }
        }
    };
    let listened = timeout(SOON, listen).await;
    listened.with_context(|| format!("{wanted} was not told, but {all:?}"))??;
    Ok(all)
}

#[tokio::test]
async fn systemd_is_told_ready_without_consul_and_stopping_and_its_watchdog_is_fed() -> anyhow::Result<()> {
    let haproxy = Haproxy::start(&backend("app", 100, 0)).await?;
    let path = haproxy.dir().join("notify.sock");
    let socket = UnixDatagram::bind(&path)?;
    let mut weightd = Settings::without_haproxy("http://127.0.0.1:9")
        .haproxy("haproxy", &haproxy.address())
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .env("WATCHDOG_USEC", "1000000")
        .start()
        .await?;
    told(&socket, "READY=1").await?;
    for _ in 0..3 {
        timeout(Duration::from_secs(3), told(&socket, "WATCHDOG=1")).await.context("the watchdog would bite")??;
    }
    weightd.stop().await?;
    told(&socket, "STOPPING=1").await.map(drop)
}

#[tokio::test]
async fn leaving_changes_nothing() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    for signal in [Signal::TERM, Signal::INT] {
        becomes(&haproxy, "app", 70, 30).await?;
        converged(&weightd).await?;
        weightd.program().signal(signal)?;
        let status = timeout(PATIENCE, weightd.program().ended()).await??;
        assert!(status.success(), "{status} after {signal:?}");
        is(&haproxy, "app", 70, 30).await?;
        weightd.start_again().await?;
    }
    weightd.kill().await?;
    haproxy.set_weight_by_hand("app", "green", 7).await?;
    is(&haproxy, "app", 70, 7).await?;
    stays(&haproxy, "app", 70, 7).await
}

/// Everything that a weightd said, to anybody.
async fn everything(weightd: &Weightd) -> anyhow::Result<String> {
    Ok(weightd.log() + &weightd.get("/v1/status").await? + &weightd.metrics().await?)
}

#[tokio::test]
async fn the_token_is_never_shown() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    let haproxy = Haproxy::start(&backend("app", 100, 0)).await?;
    consul.http().set_policy("node", r#"key_prefix "weightd/" { policy = "read" }"#).await?;
    consul.put(&key("app"), document(70, 30)).await?;
    let good = consul.http().new_token("node").await?;
    let bad = "5ec2e7ba-d000-4000-8000-00000badf00d";
    let file = haproxy.dir().join("token");
    fs::write(&file, bad)?;
    let auth = "operator:s3cret-of-the-proxy";
    let path = |file: &Path| file.display().to_string();
    for (settings, token) in [
        (Settings::without_haproxy(&consul.address()).env("CONSUL_HTTP_TOKEN", &good), good.as_str()),
        (Settings::without_haproxy(&consul.address()).set("consul.token", good.as_str()), &good),
        (Settings::without_haproxy(&consul.address()).set("consul.token_file", path(&file)), bad),
    ] {
        let mut weightd = settings
            .env("WEIGHTD_LOG", "trace,hyper=trace,hyper_util=trace,reqwest=trace,axum=trace,tokio=trace")
            .env("CONSUL_HTTP_AUTH", auth)
            .haproxy("haproxy", &haproxy.address())
            .start()
            .await?;
        if token == bad {
            consul_is(&weightd, "held", Some("denied")).await?;
        } else {
            becomes(&haproxy, "app", 70, 30).await?;
        }
        assert!(!lines(&weightd, &["TRACE"]).is_empty(), "{}", weightd.log());
        let everything = everything(&weightd).await?;
        weightd.stop().await?;
        for secret in [token, "s3cret-of-the-proxy", "b3BlcmF0b3I6czNjcmV0"] {
            assert!(!(everything.clone() + &weightd.log()).contains(secret), "{secret}: {everything}");
        }
    }
    // Nor in what is said about a configuration that cannot be used.
    let broken = haproxy.dir().join("broken.toml");
    for config in [format!("[consul]\ntoken = [\"{good}\"]\n"), format!("[consul]\ntokn = \"{good}\"\n")] {
        fs::write(&broken, config)?;
        let output = run(["--check".as_ref(), "--config".as_ref(), broken.as_os_str()]).await?;
        assert_eq!(code(&output), Some(64));
        assert!(!said(&output).contains(&good), "{}", said(&output));
    }
    Ok(())
}
