//! The lines themselves: the same wherever they are printed, and what they need.

use anyhow::ensure;
use tokio::process::Command;

use super::{NOTICED, Node, STICKY, computed, sticky};
use crate::{
    common::{becomes, servers},
    harness::{Apps, Haproxy, Port, apps::App, eventually, haproxy::version, program, users::Browser},
    pages::page,
};

/// The number of visitors without an id.
const VISITORS: usize = 400;

/// The lines between the marks, without comments and indentation.
fn lines(text: &str) -> Vec<&str> {
    let inside = text.split("# sticky: begin").nth(1).and_then(|rest| rest.split("# sticky: end").next());
    let lines = inside.unwrap_or_default().lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn the_lines_are_the_same_in_the_demo_in_the_compose_file_and_on_the_page() {
    let shipped = lines(STICKY);
    assert!(shipped.len() > 6, "{shipped:?}");
    assert_eq!(lines(include_str!("../../../haproxy/demo.cfg")), shipped, "haproxy/demo.cfg");
    assert_eq!(lines(include_str!("../../../haproxy/compose.cfg")), shipped, "haproxy/compose.cfg");
    assert_eq!(lines(&page("docs/sticky.md").text), shipped, "docs/sticky.md");
}

/// HAProxy 2.2 has no sample with the weight of a server, and the page says so.
#[tokio::test]
async fn haproxy_accepts_the_lines_unless_it_has_no_sample_for_a_weight() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, crate::harness::haproxy::configuration(&sticky(&Port::free()?, [9; 4]))?)?;
    let output = Command::new(program::server("haproxy")?)
        .args(["-c".as_ref(), "-f".as_ref(), file.as_os_str()])
        .env("ADMIN_SOCKET", "/nowhere/admin.sock")
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if version()? < (2, 3) {
        ensure!(said.contains("unknown fetch method 'srv_uweight'"), "{said}");
    } else {
        ensure!(output.status.success() && !said.contains("WARNING"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_user_without_an_id_follows_the_weights() -> anyhow::Result<()> {
    if !super::supported()? {
        return Ok(());
    }
    let apps = Apps::start().await?;
    let node = Node::start(&apps, "").await?;
    for (server, weight) in [("blue", 50), ("green", 50)] {
        node.haproxy.set_weight_by_hand("app", server, weight).await?;
    }
    let mut browser = node.browser();
    // An empty cookie is no id. Else all these users would be one user.
    for cookie in [None, Some("uid="), Some("other=1")] {
        let mut green = 0;
        for _ in 0..20 {
            let answer = browser.get("/", cookie).await?;
            ensure!(answer.status == 200, "{answer:?}");
            green += usize::from(answer.body == "green");
        }
        ensure!(green == 10, "{cookie:?}: {green} of 20 on green");
    }
    Ok(())
}

#[tokio::test]
async fn a_visitor_gets_an_id_and_stays_on_the_side_of_that_id() -> anyhow::Result<()> {
    if !super::supported()? {
        return Ok(());
    }
    let apps = Apps::start().await?;
    let node = Node::start(&apps, "").await?;
    node.haproxy.until_checked("visitors").await?;
    let weights = [("blue", 75), ("green", 25)];
    for (server, weight) in weights {
        node.haproxy.set_weight_by_hand("visitors", server, weight).await?;
    }
    let mut browser = node.browser();
    let mut first = std::collections::BTreeMap::new();
    for _ in 0..VISITORS {
        let answer = browser.get("/visitors", None).await?;
        let cookie = answer.set_cookie.unwrap_or_default();
        let id = cookie.strip_prefix("wd_id=").and_then(|rest| rest.split(';').next()).unwrap_or_default();
        ensure!(id.len() == 36, "{cookie:?}");
        first.insert(id.to_owned(), answer.body);
    }
    let ids: Vec<_> = first.keys().cloned().collect();
    let expected = computed(None, &["visitors", "--weights", "blue=75,green=25"], &ids).await?;
    super::same(&first, &expected, "the first request")?;
    for id in &ids {
        let answer = browser.get("/visitors", Some(&format!("wd_id={id}"))).await?;
        ensure!(answer.body == expected[id] && answer.set_cookie.is_none(), "{answer:?}");
    }
    let green = super::on_green(&first);
    ensure!((60..=145).contains(&green), "{green} of {VISITORS} on green");
    Ok(())
}

#[tokio::test]
async fn with_two_servers_a_side_a_user_stays_on_the_side_while_one_of_them_serves() -> anyhow::Result<()> {
    if !super::supported()? {
        return Ok(());
    }
    let (blue1, green1) = tokio::try_join!(App::start("blue1"), App::start("green1"))?;
    let (blue2, mut green2) = tokio::try_join!(App::start("blue2"), App::start("green2"))?;
    let web = Port::free()?;
    let ports = [blue1.port(), green1.port(), blue2.port(), green2.port()];
    let haproxy = Haproxy::start(&sticky(&web, ports)).await?;
    haproxy.until_checked("pairs").await?;
    let set = async |weights: [u32; 4]| {
        for (server, weight) in ["blue1", "blue2", "green1", "green2"].into_iter().zip(weights) {
            haproxy.set_weight_by_hand("pairs", server, weight).await?;
        }
        anyhow::Ok(())
    };
    let users = crate::harness::users::users(1000);
    let mut browser = Browser::new(web.number());
    // The side of each user, and how many users each server has.
    let mut observe = async || {
        let sides = browser.sides("/pairs", &users).await?;
        let mut counts = std::collections::BTreeMap::new();
        for server in sides.values() {
            *counts.entry(server.clone()).or_insert(0_usize) += 1;
        }
        let sides = sides.into_iter().map(|(user, server)| (user, server[..server.len() - 1].to_owned() + "1"));
        anyhow::Ok((sides.collect::<std::collections::BTreeMap<_, _>>(), counts))
    };
    let arguments = ["pairs", "--of", "green*", "--weights", "blue1=37,blue2=38,green1=12,green2=13"];
    let expected = computed(None, &arguments, &users).await?;

    set([37, 38, 12, 13]).await?;
    let (sides, counts) = observe().await?;
    super::same(&sides, &expected, "all serve")?;
    ensure!(counts.len() == 4 && counts.values().all(|count| *count > 80), "{counts:?}");
    eprintln!("HAProxy {:?}, two servers a side: {counts:?}", version()?);

    // One server of a side at weight 0: the other one has all of its users.
    set([37, 38, 25, 0]).await?;
    let (sides, counts) = observe().await?;
    super::same(&sides, &expected, "green2 has weight 0")?;
    ensure!(!counts.contains_key("green2"), "{counts:?}");

    set([37, 38, 12, 13]).await?;
    green2.stop().await?;
    eventually(NOTICED, "the users of green2 are on green1", async || {
        let (sides, counts) = observe().await?;
        ensure!(!counts.contains_key("green2"), "{counts:?}");
        super::same(&sides, &expected, "green2 is down")
    })
    .await?;
    green2.start_again().await?;
    eventually(NOTICED, "the users of green2 are back", async || {
        let (sides, now) = observe().await?;
        ensure!(now.len() == 4, "{now:?}");
        super::same(&sides, &expected, "green2 is up again")
    })
    .await?;

    for server in ["green1", "green2"] {
        haproxy.command(&format!("set server pairs/{server} state maint")).await?;
    }
    let (_, counts) = observe().await?;
    ensure!(counts.keys().all(|server| server.starts_with("blue")), "{counts:?}");
    Ok(())
}

/// Another draw, as the page describes it.
#[tokio::test]
async fn a_salt_gives_the_draw_that_whois_computes_with_it() -> anyhow::Result<()> {
    if !super::supported()? {
        return Ok(());
    }
    let apps = Apps::start().await?;
    let web = Port::free()?;
    let (blue, green) = (apps.blue.port(), apps.green.port());
    let text = sticky(&web, [blue, green, blue, green]).replace("concat(/,txn.wd_id)", "concat(/2026-12/,txn.wd_id)");
    let (_consul, haproxy) = servers(&text).await?;
    haproxy.until_checked("app").await?;
    for server in ["blue", "green"] {
        haproxy.set_weight_by_hand("app", server, 50).await?;
    }
    becomes(&haproxy, "app", 50, 50).await?;
    let users = crate::harness::users::users(200);
    let sides = Browser::new(web.number()).sides("/", &users).await?;
    let arguments = ["app", "--weights", "blue=50,green=50", "--salt", "2026-12"];
    super::same(&sides, &computed(None, &arguments, &users).await?, "with a salt")?;
    let plain = computed(None, &arguments[..3], &users).await?;
    ensure!(sides != plain, "the salt changes nothing");
    Ok(())
}
