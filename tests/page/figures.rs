//! Figures: bytes and first paint with 500 applications, and how soon a change is seen.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    browser::{Browser, Look},
    common::key,
    harness::{Consul, page::Page},
    pictures::sign_in,
    story,
};

#[tokio::test]
async fn five_hundred_applications_are_small_and_soon_there() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    for number in 0..480 {
        let document = json!({"split": {"blue-*": 100, "green-*": 0}, "by": "n.haddad", "at": "2026-11-21T10:00:00Z"});
        consul.put(&key(&format!("service-{number:03}")), document.to_string()).await?;
    }
    story::tell(&consul).await?;
    let page = Page::start(&consul, None).await?;
    let browser = Browser::start().await?;
    browser.look(Look::DESK).await?;
    sign_in(&browser, &page, "ann").await?;
    let mut paints = Vec::new();
    for _ in 0..7 {
        browser.open(&page.url("/")).await?;
        paints.push(browser.first_paint().await?);
    }
    paints.sort_by(f64::total_cmp);
    let bytes = |of: &str| {
        format!(
            "performance.getEntriesByType('{of}').filter((e) => !e.name.includes('/events')).reduce((n, e) => n + e.encodedBodySize + 300, 0)"
        )
    };
    let own = browser.script(&bytes("navigation")).await?.as_f64().context("bytes")?;
    let others = browser.script(&bytes("resource")).await?.as_f64().context("bytes")?;
    println!(
        "497 applications: first paint {:.0} ms (median of 7, least {:.0}), page {:.1} KiB, style, script and icon {:.1} KiB",
        paints[3],
        paints[0],
        own / 1024.0,
        others / 1024.0
    );
    ensure!((own + others) / 1024.0 < 60.0, "{own} + {others} bytes");
    ensure!(browser.text().await?.contains("497 applications"));
    browser.stop().await
}

#[tokio::test]
async fn a_change_is_seen_within_a_second() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::tell(&consul).await?;
    let page = Page::start(&consul, None).await?;
    let browser = Browser::start().await?;
    browser.look(Look::DESK).await?;
    sign_in(&browser, &page, "ann").await?;
    browser.open(&page.url("/app/ads")).await?;
    browser.shows("Live").await?;
    let mut times = Vec::new();
    for green in [3_u32, 7, 11, 13, 17, 19, 23, 29, 31] {
        let wait = format!(
            "window.seen = new Promise((done) => {{ const look = () => document.getElementById('now').textContent.includes('green {green}') && done(true); new MutationObserver(look).observe(document.body, {{subtree: true, childList: true}}); look(); }}); 1"
        );
        browser.script(&wait).await?;
        let document = json!({"split": {"blue-*": 100 - green, "green-*": green}, "by": "bob"}).to_string();
        let began = Instant::now();
        consul.put(&key("ads"), document).await?;
        browser.script("window.seen").await?;
        times.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    times.sort();
    println!("a change in Consul is in the browser after {:?} (median), {:?} at most", times[4], times[8]);
    ensure!(times[8] < Duration::from_secs(1), "{times:?}");
    browser.stop().await
}
