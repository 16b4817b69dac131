//! The server-state file: a new HAProxy process starts with the correct weights, also without weightd. The tests also
//! cover its side effects.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::{
    common::{A_WHILE, SOON, becomes, converged, is, key, lines, metric, put, servers},
    harness::{
        Apps, Consul, Haproxy, Port, Traffic, Weightd, always, config, eventually, traffic::Rate, weightd::Settings,
    },
};

/// The number of reloads without a single request on wrong weights.
const RELOADS: usize = 20;

/// A directory for the file, in the configuration of weightd and HAProxy.
struct Folder(TempDir);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("state-").tempdir()?))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("server-state")
    }

    /// The lines for haproxy.cfg from docs/state-file.md, with this file.
    fn lines(&self) -> String {
        config::state_file(&self.file())
    }

    fn weightd(&self, consul: &Consul, haproxy: &Haproxy) -> Settings {
        let (address, file) = (haproxy.address(), self.file().display().to_string());
        Settings::without_haproxy(&consul.address())
            .instance(&[("name", "haproxy"), ("address", &address), ("state_file", &file)])
            .set("reconcile.resync", "1s")
    }

    /// Waits until the file has these rows, each `server weight`.
    async fn has_rows(&self, expected: &[&str]) -> anyhow::Result<()> {
        eventually(SOON, &format!("the file has the rows {expected:?}"), async || {
            let text = fs::read_to_string(self.file())?;
            let rows: Vec<String> = text.lines().skip(2).filter_map(row).collect();
            ensure!(rows == expected, "{rows:?}");
            Ok(())
        })
        .await
    }
}

/// The columns `srv_name srv_uweight` of a line.
fn row(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split(' ').collect();
    Some(format!("{} {}", fields.get(3)?, fields.get(7)?))
}

fn app(blue: (u16, u16), green: (u16, u16)) -> String {
    config::backend("app", &["balance roundrobin"], &[("blue", blue.0, blue.1), ("green", green.0, green.1)], "")
}

/// A column of `show servers state` for a server of `app`.
async fn column(haproxy: &Haproxy, server: &str, name: &str) -> anyhow::Result<String> {
    let answer = haproxy.command("show servers state app").await?;
    let header = answer.lines().nth(1).and_then(|line| line.strip_prefix("# ")).context("no header")?;
    let at = header.split(' ').position(|column| column == name).context("no such column")?;
    let row = answer.lines().find(|line| line.split(' ').nth(3) == Some(server)).context("no such server")?;
    row.split(' ').nth(at).map(str::to_owned).context("a short row")
}

#[tokio::test]
async fn a_reload_starts_with_the_correct_weights_also_without_weightd() -> anyhow::Result<()> {
    let (folder, apps, port) = (Folder::new()?, Apps::start().await?, Port::free()?);
    // The configured weights are the opposite of the desired ones.
    let body = folder.lines()
        + &config::frontend(port.number(), "app")
        + &app((apps.blue.port(), 0), (apps.green.port(), 100));
    let (consul, mut haproxy) = servers(&body).await?;
    let mut weightd = folder.weightd(&consul, &haproxy).start().await?;
    put(&consul, "app", 90, 10).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    folder.has_rows(&["blue 90", "green 10"]).await?;

    let traffic = Traffic::start(port.number(), Rate { kept: 100, fresh: 100 });
    for with_weightd in [true, false] {
        if !with_weightd {
            weightd.stop().await?;
        }
        let before = traffic.count();
        for _ in 0..RELOADS {
            haproxy.reload_again().await?;
            is(&haproxy, "app", 90, 10).await?;
        }
        eventually(SOON, "requests are answered", async || {
            ensure!(traffic.since(&before).answered() > 200);
            Ok(())
        })
        .await?;
        let count = traffic.since(&before);
        let wrong: u64 = count.weights.iter().filter(|(weights, _)| *weights != "90/10").map(|(_, n)| n).sum();
        println!("weightd {with_weightd}: {RELOADS} reloads, {} requests, {wrong} on wrong weights", count.answered());
        assert_eq!(wrong, 0, "requests on wrong weights: {count:?}");
        count.expect_no_failure().context("failed requests")?;
    }
    drop(traffic);
    haproxy.stop().await?;
    haproxy.start_again().await?;
    is(&haproxy, "app", 90, 10).await
}

/// Waits until weightd has written its files for the present process.
async fn written_for(weightd: &Weightd, haproxy: &Haproxy) -> anyhow::Result<()> {
    let pid = haproxy.pid().await?.to_string();
    eventually(SOON, "the file is written for this process", async || {
        for entry in fs::read_dir(weightd.dir().join("run"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "process") && fs::read_to_string(&path)? == pid {
                return Ok(());
            }
        }
        anyhow::bail!("the file is not written yet")
    })
    .await
}

/// Waits until the state on disk has this weight.
async fn saved(weightd: &Weightd, green: u32) -> anyhow::Result<()> {
    eventually(SOON, "the state is on disk", async || {
        for entry in fs::read_dir(weightd.dir().join("state"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "state") {
                let text = fs::read_to_string(&path)?;
                ensure!(text.contains(&format!("\"green\":{green}")), "{text}");
                return Ok(());
            }
        }
        anyhow::bail!("there is no state")
    })
    .await
}

#[tokio::test]
async fn an_edited_port_is_used_after_the_file_is_deleted() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let body = |port| folder.lines() + &app((port, 0), (9, 100));
    let (consul, mut haproxy) = servers(&body(9)).await?;
    let weightd = folder.weightd(&consul, &haproxy).start().await?;
    put(&consul, "app", 90, 10).await?;
    folder.has_rows(&["blue 90", "green 10"]).await?;
    converged(&weightd).await?;

    haproxy.reload(&body(19)).await?;
    assert_eq!(
        column(&haproxy, "blue", "srv_port").await?,
        "9",
        "known side effect: the port in the file overrides the edited one"
    );
    written_for(&weightd, &haproxy).await?;
    fs::remove_file(folder.file())?;
    // The file does not return, also after a change of weight before the reload. weightd writes both files one after
    // the other. So a later change in the state proves that an earlier one would be in the file.
    for green in [20, 30, 40] {
        put(&consul, "app", 90, green).await?;
        becomes(&haproxy, "app", 90, green).await?;
        saved(&weightd, green).await?;
    }
    ensure!(!folder.file().exists(), "the file was written again with the old port");
    put(&consul, "app", 90, 10).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    haproxy.reload_again().await?;
    assert_eq!(column(&haproxy, "blue", "srv_port").await?, "19");
    becomes(&haproxy, "app", 90, 10).await?;
    eventually(SOON, "the file has the new port", async || {
        ensure!(fs::read_to_string(folder.file())?.contains(" - 19 -"));
        Ok(())
    })
    .await?;
    haproxy.reload_again().await?;
    assert_eq!(column(&haproxy, "blue", "srv_port").await?, "19");
    is(&haproxy, "app", 90, 10).await
}

#[tokio::test]
async fn an_edited_address_is_used_at_once_and_an_edited_weight_invalidates_the_row() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let (consul, mut haproxy) = servers(&(folder.lines() + &app((9, 0), (9, 100)))).await?;
    let mut weightd = folder.weightd(&consul, &haproxy).start().await?;
    put(&consul, "app", 90, 10).await?;
    folder.has_rows(&["blue 90", "green 10"]).await?;
    converged(&weightd).await?;
    weightd.stop().await?;
    haproxy.reload(&(folder.lines() + &app((9, 0), (9, 50))).replace("127.0.0.1:9", "127.0.0.2:9")).await?;
    assert_eq!(column(&haproxy, "blue", "srv_addr").await?, "127.0.0.2");
    is(&haproxy, "app", 90, 50).await?;
    // weightd corrects it at once, and writes the file for the new configured weight.
    weightd.start_again().await?;
    becomes(&haproxy, "app", 90, 10).await?;
    eventually(SOON, "the file has the new configured weight", async || {
        ensure!(fs::read_to_string(folder.file())?.contains("green - 2 0 10 50 "));
        Ok(())
    })
    .await?;
    haproxy.reload_completely().await?;
    is(&haproxy, "app", 90, 10).await
}

#[tokio::test]
async fn maintenance_does_not_survive_a_reload_with_the_file() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let (consul, mut haproxy) = servers(&(folder.lines() + &app((9, 0), (9, 100)))).await?;
    let weightd = folder.weightd(&consul, &haproxy).start().await?;
    put(&consul, "app", 90, 10).await?;
    folder.has_rows(&["blue 90", "green 10"]).await?;
    haproxy.command("set server app/blue state maint").await?;
    eventually(SOON, "weightd has seen the maintenance", async || {
        let status = weightd.backend("app").await?;
        ensure!(status["servers"][0]["usable"] == false, "{status}");
        Ok(())
    })
    .await?;
    haproxy.reload_again().await?;
    assert_eq!(column(&haproxy, "blue", "srv_admin_state").await?, "0");
    is(&haproxy, "app", 90, 10).await
}

#[tokio::test]
async fn a_pause_keeps_weights_set_by_hand_over_a_reload_and_a_release_keeps_the_file() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let (consul, mut haproxy) = servers(&(folder.lines() + &app((9, 0), (9, 100)))).await?;
    let weightd = folder.weightd(&consul, &haproxy).start().await?;
    put(&consul, "app", 90, 10).await?;
    folder.has_rows(&["blue 90", "green 10"]).await?;
    let socket = weightd.dir().join("run/weightd.sock").display().to_string();
    let ctl =
        async |arguments: &[&str]| crate::harness::weightd::weightctl(&[("WEIGHTD_SOCKET", &socket)], arguments).await;
    ensure!(ctl(&["pause", "--local", "--for", "10m"]).await?.status.success());
    haproxy.set_weight_by_hand("app", "green", 77).await?;
    folder.has_rows(&["blue 90", "green 77"]).await?;
    haproxy.reload_completely().await?;
    is(&haproxy, "app", 90, 77).await?;
    ensure!(ctl(&["resume", "--local"]).await?.status.success());
    becomes(&haproxy, "app", 90, 10).await?;
    folder.has_rows(&["blue 90", "green 10"]).await?;
    consul.put(&key("app"), r#"{"release":true}"#).await?;
    folder.has_rows(&[]).await?;
    haproxy.reload_completely().await?;
    is(&haproxy, "app", 0, 100).await
}

#[tokio::test]
async fn a_write_error_of_the_file_is_logged_once_and_the_file_is_written_later() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let (consul, haproxy) = servers(&app((9, 0), (9, 100))).await?;
    let missing = folder.0.path().join("missing");
    let file = missing.join("server-state");
    let weightd = Settings::without_haproxy(&consul.address())
        .instance(&[("name", "haproxy"), ("address", &haproxy.address()), ("state_file", &file.display().to_string())])
        .set("reconcile.resync", "1s")
        .start()
        .await?;
    for green in [10, 20] {
        put(&consul, "app", 90, green).await?;
        becomes(&haproxy, "app", 90, green).await?;
    }
    eventually(SOON, "the write was retried", async || {
        ensure!(metric(&weightd, "weightd_state_persist_errors_total", "").await? > 1);
        Ok(())
    })
    .await?;
    let logged = lines(&weightd, &[" WARN", "cannot write the server-state file", "missing/server-state", "hint="]);
    assert_eq!(logged.len(), 1, "{}", weightd.log());
    converged(&weightd).await?;
    fs::create_dir(&missing)?;
    eventually(SOON, "the file is written", async || {
        ensure!(fs::read_to_string(&file)?.contains("green - 2 0 20 100"));
        ensure!(weightd.logs_contain(&["writing the server-state file of HAProxy works again"]));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn in_mode_observe_no_file_is_written() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let (consul, haproxy) = servers(&app((9, 0), (9, 100))).await?;
    put(&consul, "app", 90, 10).await?;
    let weightd: Weightd = folder.weightd(&consul, &haproxy).set("mode", "observe").start().await?;
    eventually(SOON, "status shows the plan", async || {
        ensure!(weightd.logs_contain(&["would set these weights"]));
        Ok(())
    })
    .await?;
    always(A_WHILE + Duration::from_secs(1), "there is no file", async || {
        ensure!(!folder.file().exists());
        Ok(())
    })
    .await
}
