//! What happens to the users of a side that is down, in drain or in maintenance.

use anyhow::{Context as _, ensure};

use super::{NOTICED, Node, computed, sticky};
use crate::harness::{Apps, Haproxy, Port, eventually, users::Browser};

/// A user of each side at blue 75, green 25.
async fn one_of_each() -> anyhow::Result<(String, String)> {
    let users = crate::harness::users::users(40);
    let sides = computed(None, &["app", "--weights", "blue=75,green=25"], &users).await?;
    let one = |side: &str| sides.iter().find(|(_, on)| *on == side).map(|(user, _)| user.clone());
    Ok((one("blue").context("no user of blue")?, one("green").context("no user of green")?))
}

async fn weigh(haproxy: &Haproxy, blue: u32, green: u32) -> anyhow::Result<()> {
    haproxy.set_weight_by_hand("app", "blue", blue).await?;
    haproxy.set_weight_by_hand("app", "green", green).await
}

/// Waits until this user gets an answer of this side.
async fn goes_to(browser: &mut Browser, user: &str, side: &str) -> anyhow::Result<()> {
    eventually(NOTICED, &format!("{user} is on {side}"), async || {
        let seen = browser.side("/", user).await?;
        ensure!(seen == side, "{seen}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_users_of_a_side_that_does_not_serve_go_to_the_other_one_and_back() -> anyhow::Result<()> {
    if !super::supported()? {
        return Ok(());
    }
    let mut apps = Apps::start().await?;
    let node = Node::start(&apps, "").await?;
    let mut browser = node.browser();
    let (of_blue, of_green) = one_of_each().await?;
    weigh(&node.haproxy, 75, 25).await?;
    goes_to(&mut browser, &of_green, "green").await?;
    goes_to(&mut browser, &of_blue, "blue").await?;

    // `use-server` ignores the state drain.
    node.haproxy.command("set server app/green state drain").await?;
    for _ in 0..10 {
        ensure!(browser.side("/", &of_green).await? == "green", "drain moves the user");
    }
    node.haproxy.command("set server app/green state maint").await?;
    ensure!(browser.side("/", &of_green).await? == "blue", "maintenance does not move the user");
    node.haproxy.command("set server app/green state ready").await?;
    goes_to(&mut browser, &of_green, "green").await?;

    // With `option redispatch 1`, no request fails, also before the check fails.
    apps.green.stop().await?;
    ensure!(browser.side("/", &of_green).await? == "blue", "the other side does not answer");
    goes_to(&mut browser, &of_green, "blue").await?;
    apps.green.start_again().await?;
    goes_to(&mut browser, &of_green, "green").await?;

    apps.blue.stop().await?;
    goes_to(&mut browser, &of_blue, "green").await?;
    Ok(())
}

#[tokio::test]
async fn with_the_other_side_at_0_a_side_that_is_down_answers_503_unless_a_line_allows_it() -> anyhow::Result<()> {
    if !super::supported()? {
        return Ok(());
    }
    let mut apps = Apps::start().await?;
    let (of_blue, _) = one_of_each().await?;
    let web = Port::free()?;
    let (blue, green) = (apps.blue.port(), apps.green.port());
    let plain = sticky(&web, [blue, green, blue, green]);
    let mut haproxy = Haproxy::start(&plain).await?;
    haproxy.until_checked("app").await?;
    let cookie = format!("uid={of_blue}");
    apps.blue.stop().await?;
    let mut browser = Browser::new(web.number());
    eventually(NOTICED, "HAProxy notices that blue is down", async || {
        let answer = browser.get("/", Some(&cookie)).await?;
        ensure!(answer.status == 503, "{answer:?}");
        let state = haproxy.command("show servers state app").await?;
        let down =
            state.lines().any(|line| line.split(' ').nth(3) == Some("blue") && line.split(' ').nth(5) == Some("0"));
        ensure!(down, "{state}");
        Ok(())
    })
    .await?;

    // The line of the page.
    let line = crate::pages::page("docs/sticky.md");
    let line = line.text.lines().map(str::trim).find(|line| line.starts_with("use-server green if !{"));
    let line = line.context("docs/sticky.md has no line for this")?;
    let mark = "    # sticky: end";
    ensure!(plain.contains(mark), "no mark");
    haproxy.reload(&plain.replace(mark, &format!("    {line}\n{mark}"))).await?;
    haproxy.until_old_workers_ended().await?;
    let mut browser = Browser::new(web.number());
    for cookie in [Some(cookie.as_str()), None] {
        eventually(NOTICED, "green answers", async || {
            let answer = browser.get("/", cookie).await?;
            ensure!(answer.status == 200 && answer.body == "green", "{answer:?}");
            Ok(())
        })
        .await?;
    }
    apps.blue.start_again().await?;
    goes_to(&mut browser, &of_blue, "blue").await
}

#[tokio::test]
async fn with_all_weights_0_a_known_user_stays_on_blue() -> anyhow::Result<()> {
    if !super::supported()? {
        return Ok(());
    }
    let apps = Apps::start().await?;
    let node = Node::start(&apps, "").await?;
    weigh(&node.haproxy, 0, 0).await?;
    let mut browser = node.browser();
    let (of_blue, of_green) = one_of_each().await?;
    for user in [of_blue, of_green] {
        ensure!(browser.side("/", &user).await? == "blue", "{user}");
    }
    ensure!(browser.get("/", None).await?.status == 503, "somebody answers an unknown user");
    Ok(())
}
