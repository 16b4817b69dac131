//! `rolloutd page` as a process of its own, beside a controller.

use std::{fs, time::Duration};

use anyhow::ensure;
use reqwest::StatusCode;

use super::{reading::words, story};
use crate::{
    common::SOON,
    harness::{
        Consul, Port, Rolloutd,
        consul::Options,
        eventually,
        page::{Page, Visitor, with_form},
        program::{Program, binary},
    },
};

#[tokio::test]
async fn the_page_and_the_controller_do_not_need_each_other() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    let dir = tempfile::tempdir()?;
    let (port, metrics) = (Port::free()?, Port::free()?);
    let secret = consul.token().unwrap_or_default().to_owned();
    fs::write(dir.path().join("token"), &secret)?;
    let config = format!(
        "[consul]\naddress = \"{}\"\n[page]\nlisten = \"127.0.0.1:{port}\"\nmetrics_listen = \"127.0.0.1:{metrics}\"\ntoken_file = \"{}\"\n",
        consul.address(),
        dir.path().join("token").display()
    );
    let file = dir.path().join("rolloutd.toml");
    fs::write(&file, config)?;
    let mut program = Program::new("page", binary("rolloutd")?, dir.path())
        .args(["page".as_ref(), "--config".as_ref(), file.as_os_str()])
        .env("ROLLOUTD_LOG", "debug");
    program.spawn()?;
    let client = crate::harness::http().build()?;
    let ready = || async { anyhow::Ok(client.get(format!("http://127.0.0.1:{metrics}/ready")).send().await?.status()) };
    let came = eventually(SOON, "the page is ready", async || {
        ensure!(ready().await? == StatusCode::OK);
        Ok(())
    })
    .await;
    ensure!(came.is_ok(), "{came:?}\n{}", program.log());
    let page = Page::at(([127, 0, 0, 1], port.number()).into());
    let ann = page.person(&secret).await?;
    // The controller comes, dies and comes again: the page says so, and works.
    for _ in 0..2 {
        let mut controller = Rolloutd::start(&consul, "one").await?;
        leads(&ann, "one leads").await?;
        controller.kill().await?;
        leads(&ann, "no controller leads").await?;
    }
    let controller = Rolloutd::start(&consul, "two").await?;
    leads(&ann, "two leads").await?;
    let wrong = ann.request(reqwest::Method::POST, "/sign-in").header("origin", page.url(""));
    ann.send(with_form(wrong, &[("token", "00000000-0000-0000-0000-00000000beef")])).await?;
    let text = client.get(format!("http://127.0.0.1:{metrics}/metrics")).send().await?.text().await?;
    ensure!(
        text.contains("rolloutd_page_sign_ins_total 1") && text.contains("rolloutd_page_consul_away_seconds 0"),
        "{text}"
    );
    let log = program.log();
    ensure!(
        log.contains("signed in") && !log.contains(&secret) && !log.contains("beef"),
        "a token is in the log: {log}"
    );
    // The page dies: the controller goes on.
    program.kill().await?;
    let (status, text) = controller.get("/ready").await?;
    ensure!(status == 200, "{text}");
    Ok(())
}

async fn leads(ann: &Visitor, text: &str) -> anyhow::Result<()> {
    eventually(Duration::from_secs(40), text, async || {
        let shown = words(&ann.page("/").await?);
        ensure!(shown.contains(text), "{shown}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    })
    .await
}
