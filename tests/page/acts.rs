//! People act: by touch, by keyboard, without a script.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::{
    browser::{Browser, Look, SOON},
    common::key,
    harness::{Consul, eventually, page::Page},
    pictures::{at_the_desk, sign_in},
    stage::{APP, Stage},
    story,
};

/// How long a rollout may take until it bakes: a baseline, a shift, and what a loaded machine adds.
const BAKES: Duration = Duration::from_secs(150);

/// Waits longer than for a page.
async fn shows_within(browser: &Browser, within: Duration, text: &str) -> anyhow::Result<()> {
    eventually(within, text, async || {
        let shown = browser.text().await?;
        ensure!(shown.contains(text), "{shown}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rollout_from_start_to_roll_back_on_a_telephone() -> anyhow::Result<()> {
    let stage = Stage::new(2, 50).await?;
    let plan = "[[step]]\nshare = 50\nbake = \"20s\"\n[[step]]\nshare = 95\nbake = \"10m\"\n";
    stage.consul.put("weightd/plans/short", plan).await?;
    let page = Page::start(&stage.consul, None).await?;
    let browser = Browser::start().await?;
    browser.look(Look::PHONE).await?;
    sign_in(&browser, &page, "ann").await?;
    browser.touch("#app-app th a").await?;
    browser.shows("moved it last").await?;
    browser.touch(".acts-bar a.go").await?;
    browser.shows("Start a rollout of app").await?;
    shows_within(&browser, Duration::from_secs(30), "requests a second; the old side fails").await?;
    for choice in ["[name=mode][value=auto]", "[name=plan][value=short]", "[name=reason]"] {
        browser.touch(choice).await?;
    }
    // The stream has replaced what each plan means, an operator's own too.
    browser.shows("short: 10 min 20 s of good data at least").await?;
    browser.write("new cluster").await?;
    browser.touch("main form button.go").await?;
    browser.shows("Started: mode auto.").await?;
    shows_within(&browser, BAKES, "Bakes at 50 %").await?;
    browser.touch(".act.pause > summary").await?;
    browser.touch(".act.pause button").await?;
    browser.shows("Paused.").await?;
    browser.shows("Holds: paused").await?;
    browser.touch("#act-resume > summary").await?;
    browser.touch("#act-resume button").await?;
    browser.shows("Resumed.").await?;
    browser.touch("#act-mode > summary").await?;
    browser.touch("#act-mode [value=guard]").await?;
    browser.touch("#act-mode button").await?;
    browser.shows("The mode is guard now.").await?;
    browser.shows("Mode guard at 50 %").await?;
    // Back by two keys.
    browser.press("r").await?;
    browser.press("Enter").await?;
    browser.shows("Rolled back").await?;
    browser.shows("All 2 nodes have it.").await?;
    stage.green_is(0, 10).await?;
    shows_within(&browser, SOON, "Rolled back by ann").await?;
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    browser.stop().await
}

#[tokio::test]
async fn weights_are_set_and_taken_back_by_keyboard_alone() -> anyhow::Result<()> {
    let stage = Stage::new(2, 20).await?;
    let page = Page::start(&stage.consul, None).await?;
    let browser = Browser::start().await?;
    browser.look(Look::DESK).await?;
    sign_in(&browser, &page, "ann").await?;
    browser.press("j").await?;
    browser.press("Enter").await?;
    browser.shows("Set weights").await?;
    browser.tab_to("a[href$='/weights']").await?;
    browser.press("Enter").await?;
    browser.shows("Set weights of app").await?;
    browser.tab_to("[name=other]").await?;
    browser.write("25").await?;
    browser.press("Enter").await?;
    browser.shows("Write: green from 0 to 25 %").await?;
    browser.tab_to("#review button").await?;
    browser.press("Enter").await?;
    browser.shows("Written: green has 25 %").await?;
    browser.shows("All 2 nodes have it.").await?;
    let document = String::from_utf8(stage.consul.get(&key(APP)).await?.unwrap_or_default())?;
    ensure!(document.contains("\"green\":25") && document.contains("\"by\":\"ann\""), "{document}");
    browser.press("r").await?;
    eventually(SOON, "the button that rolls back has the focus", async || {
        let there = browser.script("document.activeElement?.textContent").await?;
        ensure!(there.as_str().is_some_and(|text| text.starts_with("Roll back to blue 100")), "{there}");
        Ok(())
    })
    .await?;
    browser.press("Enter").await?;
    browser.shows("Rolled back:").await?;
    stage.green_is(0, 10).await?;
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    browser.stop().await
}

#[tokio::test]
async fn everything_works_without_a_script() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::tell(&consul).await?;
    let page = Page::start(&consul, None).await?;
    let browser = Browser::start().await?;
    browser.look(Look::PHONE).await?;
    browser.scripts(false).await?;
    browser.open(&page.url("/sign-in")).await?;
    browser.touch("[name=name]").await?;
    browser.write("ann").await?;
    browser.touch("button.go").await?;
    browser.shows("17 applications").await?;
    ensure!(browser.text().await?.contains("As of"), "it says that it is live");
    browser.touch("#app-ads th a").await?;
    browser.shows("ads").await?;
    browser.touch("#act-freeze > summary").await?;
    browser.touch("#act-freeze [name=reason]").await?;
    browser.write("database move").await?;
    browser.touch("#act-freeze button").await?;
    browser.shows("Frozen: ads. Only a roll back passes.").await?;
    browser.open(&page.url("/app/ads/weights?share=10")).await?;
    browser.touch("#review button").await?;
    browser.shows("Nothing was written: it is frozen by ann: database move.").await?;
    browser.open(&page.url("/app/ads/start")).await?;
    // The preview of a plan follows the choice without a script.
    browser.touch("[name=plan][value=day]").await?;
    let shown = browser.text().await?;
    ensure!(shown.contains("day: 2 d") && !shown.contains("careful: 3 h"), "{shown}");
    browser.stop().await
}

#[tokio::test]
async fn the_page_follows_consul_and_never_moves_under_the_hand() -> anyhow::Result<()> {
    let (consul, page, browser) = at_the_desk().await?;
    browser.shows("Live").await?;
    story::split(&consul, "mail", 20, "bob", "shift", 0).await?;
    browser.shows("20 % green").await?;
    browser.open(&page.url("/app/checkout")).await?;
    browser.shows("Live").await?;
    // An open confirmation waits, and says what the person decided on.
    browser.press("r").await?;
    story::Told { share: 25, step: 4, ..story::Told::new("checkout") }.write(&consul).await?;
    browser.shows("Bakes at 25 %").await?;
    let open = browser.script("document.querySelector('.act.back').open").await?;
    ensure!(open == json!(true), "the confirmation closed");
    browser.press("Escape").await?;
    // A hidden tab costs nothing: its stream ends.
    let metrics = page.metrics.map(|address| format!("http://{address}/metrics")).unwrap_or_default();
    let client = crate::harness::http().build()?;
    let streams = async || -> anyhow::Result<String> {
        let text = client.get(&metrics).send().await?.text().await?;
        Ok(text.lines().find(|line| line.starts_with("rolloutd_page_streams")).unwrap_or_default().to_owned())
    };
    ensure!(streams().await?.ends_with(" 1"), "{}", streams().await?);
    browser
        .script("Object.defineProperty(document, 'hidden', {value: true, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))")
        .await?;
    eventually(SOON, "the stream ends", async || {
        ensure!(streams().await?.ends_with(" 0"), "{}", streams().await?);
        Ok(())
    })
    .await?;
    // Consul away: it says so, and how old the data are.
    browser
        .script("Object.defineProperty(document, 'hidden', {value: false, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))")
        .await?;
    let paused = consul.pause()?;
    browser.open(&page.url("/app/checkout")).await?;
    eventually(Duration::from_secs(40), "Consul is away", async || {
        let shown = browser.text().await?;
        ensure!(shown.contains("Consul does not answer since") && shown.contains("What you see is of"), "{shown}");
        Ok(())
    })
    .await?;
    drop(paused);
    eventually(Duration::from_secs(40), "Consul is back", async || {
        let shown = browser.text().await?;
        ensure!(!shown.contains("Consul does not answer"), "{shown}");
        Ok(())
    })
    .await?;
    browser.stop().await
}

#[tokio::test]
async fn a_tab_of_a_session_that_is_over_asks_to_sign_in_again() -> anyhow::Result<()> {
    let (_consul, page, browser) = at_the_desk().await?;
    browser.open(&page.url("/app/checkout")).await?;
    browser.shows("Live").await?;
    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}}); document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    browser.script(&hide(true)).await?;
    // Another tab signs out.
    browser
        .script("fetch('/sign-out', {method: 'POST', redirect: 'manual'}).then(() => { document.title = 'out' })")
        .await?;
    eventually(SOON, "signed out", async || {
        let title = browser.script("document.title").await?;
        ensure!(title == json!("out"), "{title}");
        Ok(())
    })
    .await?;
    browser.script(&hide(false)).await?;
    browser.shows("Sign in").await?;
    let shown = browser.text().await?;
    ensure!(!shown.contains("Not live since") && !shown.contains("checkout"), "{shown}");
    browser.stop().await
}
