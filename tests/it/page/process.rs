//! `rolloutd page` as a process of its own, beside a controller.

use std::time::Duration;

use anyhow::ensure;

use super::{reading::words, story};
use crate::harness::{
    Consul, Rolloutd,
    consul::Options,
    eventually,
    page::{Process, Visitor, with_form},
};

#[tokio::test]
async fn the_page_and_the_controller_do_not_need_each_other() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    let secret = consul.token().unwrap_or_default().to_owned();
    let mut process = Process::start(&consul, Some(&secret)).await?;
    let ann = process.page.person(&secret).await?;
    // The controller comes, dies and comes again: the page says so, and works.
    for _ in 0..2 {
        let mut controller = Rolloutd::start(&consul, "one").await?;
        leads(&ann, "one leads").await?;
        controller.kill().await?;
        leads(&ann, "no controller leads").await?;
    }
    let controller = Rolloutd::start(&consul, "two").await?;
    leads(&ann, "two leads").await?;
    let wrong = ann.request(reqwest::Method::POST, "/sign-in").header("origin", process.page.url(""));
    ann.send(with_form(wrong, &[("token", "00000000-0000-0000-0000-00000000beef")])).await?;
    let text = process.metrics().await?;
    ensure!(
        text.contains("rolloutd_page_sign_ins_total 1") && text.contains("rolloutd_page_consul_away_seconds 0"),
        "{text}"
    );
    let log = process.program().log();
    ensure!(
        log.contains("signed in") && !log.contains(&secret) && !log.contains("beef"),
        "a token is in the log: {log}"
    );
    // The page dies, as a panic ends it: the controller goes on.
    process.program().kill().await?;
    ensure!(ann.get("/").await.is_err(), "it still answers");
    let (status, text) = controller.get("/ready").await?;
    ensure!(status == 200, "{text}");
    // It starts again, as the unit does it, and ann is still signed in.
    process.start_again().await?;
    leads(&ann, "two leads").await?;
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
