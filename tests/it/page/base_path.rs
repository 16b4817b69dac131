//! The page below a base path, as behind a proxy that has other applications too.

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use tokio::time::timeout;

use super::story;
use crate::{
    common::SOON,
    harness::{
        Consul,
        page::{Page, Settings, settings},
    },
};

#[tokio::test]
async fn everything_works_below_a_base_path() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    let page = Page::with(Settings { base_path: "/rollouts".to_owned(), ..settings(&consul, None)? }).await?;
    let ann = page.nobody()?;
    // Without the slash no cookie is sent.
    for (path, to) in [("", "/rollouts/"), ("?q=app1", "/rollouts/?q=app1"), ("/", "/rollouts/sign-in")] {
        let answer = ann.get(path).await?;
        ensure!(answer.status == StatusCode::SEE_OTHER && answer.header("location") == to, "{path:?}: {answer:?}");
    }
    ensure!(ann.page("/sign-in").await?.contains("action=\"/rollouts/sign-in\""));
    for (to, location) in [("/../other", "/rollouts/"), ("/fleet", "/rollouts/fleet"), ("", "/rollouts/")] {
        let answer = ann.post("/sign-in", &[("name", "ann"), ("to", to)]).await?;
        ensure!(answer.header("location") == location, "{to}: {}", answer.header("location"));
        ensure!(answer.header("set-cookie").contains("; Path=/rollouts/;"), "{}", answer.header("set-cookie"));
    }
    let list = ann.page("/").await?;
    ensure!(list.contains("href=\"/rollouts/app/app1\"") && list.contains("href=\"/rollouts/\""), "{list}");
    let own = |link: &&str| !link.starts_with("/rollouts/") && link.starts_with('/');
    for path in ["/", "/app/app1", "/app/app1/start", "/app/app1/weights?share=25", "/fleet", "/activity", "/keys"] {
        let text = ann.page(path).await?;
        let links = text.split("href=\"").chain(text.split("action=\"")).skip(1);
        let links: Vec<_> = links.filter_map(|rest| rest.split('"').next()).filter(own).collect();
        ensure!(links.is_empty(), "{path} leads elsewhere: {links:?}");
    }
    let style =
        list.split("href=\"/rollouts").find_map(|rest| rest.split('"').next().filter(|path| path.contains("/static/")));
    ensure!(ann.get(style.context("no style")?).await?.status == StatusCode::OK);
    let mut stream = ann.request(Method::GET, "/events?page=/").send().await?;
    ensure!(stream.status() == StatusCode::OK, "{}", stream.status());
    let mut events = String::new();
    timeout(SOON, async {
        while !events.contains("app-app1") {
            let chunk = stream.chunk().await?.context("the stream ends")?;
            events.push_str(&String::from_utf8_lossy(&chunk));
        }
        anyhow::Ok(())
    })
    .await??;
    ensure!(events.contains("/rollouts/app/app1"), "{events}");
    let answer = ann.post("/app/app1/freeze", &[("reason", "x")]).await?;
    ensure!(answer.header("location") == "/rollouts/app/app1", "{answer:?}");
    let out = ann.post("/sign-out", &[]).await?;
    ensure!(out.header("location") == "/rollouts/sign-in" && !out.header("clear-site-data").contains("storage"));
    ensure!(!ann.cookie().contains("rollouts="), "{}", ann.cookie());
    Ok(())
}
