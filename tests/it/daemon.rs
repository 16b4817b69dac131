//! weightd as a program: options, exit codes, and secrets that it never prints.

use std::{ffi::OsStr, fs, path::Path, process::Output};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::{
    common::{SOON, backend, becomes, consul_is, converged, document, is, key, lines, put, servers, stays},
    harness::{Consul, Haproxy, PATIENCE, Weightd, consul, eventually, program, weightd::Settings},
};

/// Runs weightd until it ends.
async fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
    let mut command = Command::new(program::binary("weightd")?);
    program::without_consul(&mut command);
    command.args(arguments).env_remove("WEIGHTD_LOG").stdin(std::process::Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.context("weightd did not end")?.context("cannot run weightd")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A configuration file for this Consul and HAProxy, in its own directory.
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
async fn check_accepts_a_valid_configuration_and_reports_an_invalid_one_with_file_line_and_suggestion()
-> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("weightd.toml");
    let check = async |config: &str| {
        fs::write(&file, config)?;
        run(["--check".as_ref(), "--config".as_ref(), file.as_os_str()]).await
    };
    let good = check("[reconcile]\nresync = \"10s\"\n").await?;
    assert_eq!(code(&good), Some(0), "{}", text_of(&good));
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
        let text = text_of(&output);
        assert_eq!(code(&output), Some(64), "{config}: {text}");
        assert!(text.contains(&format!("{}:{line}: ", file.display())), "{config}: {text}");
        assert!(text.contains(words), "{config}: {text}");
        assert!(output.stdout.is_empty(), "{text}");
    }
    // weightd reads the file of the token. It starts without a token, so a problem is a warning.
    let token = dir.path().join("token");
    let config = format!("[consul]\ntoken_file = {:?}\n", token.display().to_string());
    for (content, words) in [(None, "No such file"), (Some("a b"), "white space"), (Some(""), "the token is empty")] {
        content.map(|content| fs::write(&token, content)).transpose()?;
        let output = check(&config).await?;
        let text = text_of(&output);
        assert_eq!(code(&output), Some(0), "{text}");
        assert!(text.contains("warning: ") && text.contains(words), "{words}: {text}");
    }
    fs::write(&token, "secret")?;
    let output = check(&config).await?;
    assert!(!text_of(&output).contains("warning") && !text_of(&output).contains("secret"), "{}", text_of(&output));
    fs::remove_file(&file)?;
    let missing = run(["--config".as_ref(), file.as_os_str()]).await?;
    assert_eq!(code(&missing), Some(64), "{}", text_of(&missing));
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
    assert_eq!(code(&output), Some(0), "{}", text_of(&output));
    Ok(())
}

#[tokio::test]
async fn the_exit_code_of_once_tells_whether_all_weights_equal_those_in_consul() -> anyhow::Result<()> {
    let (mut consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let (_dir, file) = configured(&consul.address(), &haproxy.address())?;
    let once = async || run(["--once", "--config", &file]).await;
    let output = once().await?;
    assert_eq!(code(&output), Some(0), "{}", text_of(&output));
    is(&haproxy, "app", 70, 30).await?;
    consul.put(&key("app"), r#"{"weights":{}}"#).await?;
    let output = once().await?;
    assert_eq!(code(&output), Some(3), "{}", text_of(&output));
    is(&haproxy, "app", 70, 30).await?;
    // Without Consul, weightd enforces the state on disk. The exit code 3 means that Consul did not confirm it.
    haproxy.set_weight_by_hand("app", "green", 99).await?;
    consul.stop().await?;
    let output = once().await?;
    assert_eq!(code(&output), Some(3), "{}", text_of(&output));
    is(&haproxy, "app", 70, 30).await?;
    let (_dir, file) = configured(&consul.address(), "unix:/nonexistent/admin.sock")?;
    let output = run(["--once", "--config", &file]).await?;
    assert_eq!(code(&output), Some(3), "{}", text_of(&output));
    Ok(())
}

#[tokio::test]
async fn a_dry_run_prints_the_plan_and_changes_nothing_also_beside_a_running_weightd() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let (dir, file) = configured(&consul.address(), &haproxy.address())?;
    let output = run(["--dry-run", "--once", "--config", &file]).await?;
    let text = text_of(&output);
    assert_eq!(code(&output), Some(3), "{text}");
    let shown = text
        .lines()
        .any(|line| ["backend=app", "green 0 → 30", "blue 100 → 70"].iter().all(|words| line.contains(words)));
    assert!(shown, "{text}");
    is(&haproxy, "app", 100, 0).await?;
    let left = fs::read_dir(dir.path())?.count();
    assert_eq!(left, 1, "neither state nor lock");

    let weightd = Weightd::start(&consul, &haproxy).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    let own = weightd.dir().join("weightd.toml");
    let output = run(["--dry-run".as_ref(), "--once".as_ref(), "--config".as_ref(), own.as_os_str()]).await?;
    assert_eq!(code(&output), Some(0), "{}", text_of(&output));
    Ok(())
}

#[tokio::test]
async fn in_mode_observe_no_weight_is_set_and_the_plan_is_shown() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let weightd = Settings::new(&consul, &haproxy).set("mode", "observe").set("reconcile.resync", "1s").start().await?;
    let would = |words: &str| lines(&weightd, &[" INFO", "would set these weights", "backend=app", words]).len();
    eventually(SOON, "the change is logged", async || {
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
    eventually(SOON, "weightd follows", async || {
        ensure!(would("green 0 → 40") == 1, "{}", weightd.log());
        Ok(())
    })
    .await?;
    assert_eq!(lines(&weightd, &["weight set"]), Vec::<String>::new());
    assert!(would("green 0 → 30") <= 2, "once for each process: {}", weightd.log());
    Ok(())
}

#[tokio::test]
async fn a_second_weightd_on_the_same_haproxy_exits_with_75() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    let mut weightd = Weightd::start(&consul, &haproxy).await?;
    let config = weightd.dir().join("weightd.toml");
    let second = run(["--config".as_ref(), config.as_os_str()]).await?;
    let text = text_of(&second);
    assert_eq!(code(&second), Some(75), "{text}");
    let pid = weightd.program().pid()?.to_string();
    assert!(text.contains("already controls") && text.contains(&format!("pid {pid}")), "{text}");
    weightd.program().check()?;
    // A lock file without a lock does not prevent a start.
    weightd.kill().await?;
    weightd.start_again().await
}

/// Every output of a weightd: log, API, files.
async fn everything(weightd: &Weightd) -> anyhow::Result<String> {
    Ok(weightd.log() + &weightd.get("/v1/status").await? + &weightd.metrics().await?)
}

#[tokio::test]
async fn the_token_is_never_printed() -> anyhow::Result<()> {
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
    // Also not in the error about an invalid configuration.
    let broken = haproxy.dir().join("broken.toml");
    for config in [format!("[consul]\ntoken = [\"{good}\"]\n"), format!("[consul]\ntokn = \"{good}\"\n")] {
        fs::write(&broken, config)?;
        let output = run(["--check".as_ref(), "--config".as_ref(), broken.as_os_str()]).await?;
        assert_eq!(code(&output), Some(64));
        assert!(!text_of(&output).contains(&good), "{}", text_of(&output));
    }
    Ok(())
}
