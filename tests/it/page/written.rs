//! What the page says of a write is what was read back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::timeout;

use super::{
    reading::{hidden, words},
    safety::token,
    story,
};
use crate::{
    common::{SOON, key},
    harness::{
        Consul,
        consul::Options,
        eventually,
        page::{Page, Visitor},
    },
};

/// An application whose new side has 10 %, five nodes, a page, and ann.
async fn app1() -> anyhow::Result<(Consul, Page, Visitor)> {
    let consul = Consul::start().await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    story::nodes(&consul, &[], &[]).await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    Ok((consul, page, ann))
}

#[tokio::test]
async fn nobody_has_a_document_that_the_page_has_not_seen() -> anyhow::Result<()> {
    let (consul, _page, ann) = app1().await?;
    for share in ["20", "30", "40"] {
        // All nodes have the document of now, and none will have the next one.
        story::nodes(&consul, &[], &[]).await?;
        let seen = consul.index(&key("app1")).await?.to_string();
        let answer = ann.post("/app/app1/weights", &[("share", share), ("seen", &seen)]).await?;
        ensure!(answer.status == StatusCode::SEE_OTHER, "{}", words(&answer.text));
        let shown = words(&ann.page("/app/app1").await?);
        ensure!(shown.contains(&format!("Written: green has {share} %. 0 of 5 nodes have it.")), "{shown}");
        ensure!(shown.contains(&format!("green {share} %")), "{shown}");
    }
    // The stream of a page that has not seen it yet.
    let written = consul.index(&key("app1")).await? + 1000;
    let path = format!("/events?page=/app/app1&written={written}");
    let mut stream = ann.request(Method::GET, &path).send().await?;
    let mut events = String::new();
    timeout(SOON, async {
        while !events.contains("id=\"reach\"") {
            let chunk = stream.chunk().await?.context("the stream ended")?;
            events.push_str(&String::from_utf8_lossy(&chunk));
        }
        anyhow::Ok(())
    })
    .await
    .context("no reach")??;
    ensure!(events.contains("<span id=\"reach\">It is not known yet which nodes have it.</span>"), "{events}");
    Ok(())
}

#[tokio::test]
async fn a_freeze_that_the_person_did_not_see_stays() -> anyhow::Result<()> {
    let (consul, _page, ann) = app1().await?;
    for (path, freeze) in [("/app/app1", "weightd/freeze/app1"), ("/fleet", "weightd/freeze")] {
        let post = async |verb: &str, seen: &str| {
            let answer = ann.post(&format!("{path}/{verb}"), &[("reason", "a move"), ("freeze", seen)]).await?;
            let said = if answer.status == StatusCode::SEE_OTHER { ann.page(path).await? } else { answer.text };
            anyhow::Ok(words(&said))
        };
        let said = post("freeze", "0").await?;
        ensure!(said.contains("Frozen: "), "{said}");
        let seen = consul.index(freeze).await?.to_string();
        consul.put(freeze, json!({"v": 1, "frozen": {"by": "bob", "reason": "a fire"}}).to_string()).await?;
        let bobs = consul.get(freeze).await?;
        for (verb, seen) in [("unfreeze", seen.as_str()), ("unfreeze", "0"), ("freeze", "0"), ("freeze", &seen)] {
            let said = post(verb, seen).await?;
            ensure!(said.contains("Nothing was written. Somebody else changed the freeze."), "{path} {verb}: {said}");
            ensure!(consul.get(freeze).await? == bobs, "{path} {verb}: the freeze changed");
        }
        // The form has what the person sees.
        let index = consul.index(freeze).await?.to_string();
        eventually(SOON, "the form has the freeze", async || {
            let html = ann.page(path).await?;
            ensure!(html.contains(&format!("name=\"freeze\" value=\"{index}\"")), "{}", words(&html));
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        })
        .await?;
        let said = post("unfreeze", &index).await?;
        ensure!(said.contains("are possible again."), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_after_the_conversion_says_what_was_written() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    for (server, weight) in [("blue", "100"), ("green", "0")] {
        consul.put(&format!("weightd/weights/app3/{server}"), weight).await?;
    }
    let reader = token(&consul, "page", "key_prefix \"weightd/\" { policy = \"read\" }").await?;
    let page = Page::start(&consul, Some(&reader)).await?;
    let rules = ["weights", "history", "rollouts/request"]
        .map(|kind| format!("key_prefix \"weightd/{kind}/\" {{ policy = \"write\" }}"));
    let rules = format!("key_prefix \"weightd/\" {{ policy = \"read\" }}\n{}", rules.join("\n"));
    let eve = page.person(&token(&consul, "without-spec", &rules).await?).await?;
    let form = eve.page("/app/app3/start").await?;
    let seen = hidden(&form, "start", "seen")?;
    let mut form = vec![("to", "green"), ("mode", "watch"), ("plan", "careful"), ("convert", "yes"), ("seen", &seen)];
    let sure = hidden(&eve.post("/app/app3/start", &form).await?.text, "start", "sure")?;
    form.push(("sure", &sure));
    let answer = eve.post("/app/app3/start", &form).await?;
    let text = words(&answer.text);
    ensure!(answer.status == StatusCode::FORBIDDEN, "{}: {text}", answer.status);
    ensure!(text.contains("The document has shares by side now, and the rollout was not started."), "{text}");
    ensure!(!text.contains("Nothing was written") && text.contains("weightd/rollouts/spec/app3"), "{text}");
    let document: serde_json::Value = serde_json::from_slice(&consul.get(&key("app3")).await?.context("no document")?)?;
    ensure!(document["split"]["green"] == 0, "{document}");
    Ok(())
}

#[tokio::test]
async fn the_freeze_of_an_application_stays_below_a_freeze_of_all() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    story::nodes(&consul, &[], &[]).await?;
    let (own, all) = ("weightd/freeze/app1", "weightd/freeze");
    consul.put(own, json!({"v": 1, "frozen": {"by": "bob", "reason": "a fire"}}).to_string()).await?;
    consul.put(all, json!({"v": 1, "frozen": {"by": "olga", "reason": "an upgrade"}}).to_string()).await?;
    let bobs = consul.get(own).await?;
    let index = consul.index(own).await?.to_string();
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    let html = ann.page("/app/app1").await?;
    let shown = words(&html);
    ensure!(shown.contains("by bob: a fire") && shown.contains("by olga: an upgrade"), "{shown}");
    ensure!(html.contains("/app/app1/unfreeze\"") && !html.contains("/app/app1/freeze\""), "{shown}");
    let form = [("reason", "a move"), ("freeze", index.as_str())];
    let answer = ann.post("/app/app1/freeze", &form).await?;
    ensure!(answer.status == StatusCode::CONFLICT, "{}: {}", answer.status, words(&answer.text));
    ensure!(consul.get(own).await? == bobs, "the freeze of bob was replaced");
    let answer = ann.post("/app/app1/unfreeze", &form).await?;
    ensure!(answer.status == StatusCode::SEE_OTHER, "{}: {}", answer.status, words(&answer.text));
    let shown = words(&ann.page("/app/app1").await?);
    ensure!(shown.contains("app1 has no freeze of its own now. All changes are still frozen by olga"), "{shown}");
    ensure!(consul.get(own).await? != bobs, "the freeze of bob is still there");
    Ok(())
}

#[tokio::test]
async fn a_key_without_a_freeze_that_was_written_since_is_no_freeze() -> anyhow::Result<()> {
    let (consul, _page, ann) = app1().await?;
    for (path, freeze) in [("/app/app1", "weightd/freeze/app1"), ("/fleet", "weightd/freeze")] {
        // The first write of an application creates the key.
        consul.put(freeze, "{}").await?;
        let answer = ann.post(&format!("{path}/freeze"), &[("reason", "a move"), ("freeze", "0")]).await?;
        ensure!(answer.status == StatusCode::SEE_OTHER, "{path}: {}: {}", answer.status, words(&answer.text));
        let frozen: serde_json::Value = serde_json::from_slice(&consul.get(freeze).await?.context("no freeze")?)?;
        ensure!(frozen["frozen"]["reason"] == "a move", "{path}: {frozen}");
    }
    Ok(())
}

#[tokio::test]
async fn a_start_shows_the_shares_that_it_writes_first() -> anyhow::Result<()> {
    let (consul, page, _) = app1().await?;
    for (server, weight) in [("blue", "95"), ("gray", "5"), ("green", "0")] {
        consul.put(&format!("weightd/weights/app3/{server}"), weight).await?;
    }
    let ann = page.named("ann").await?;
    let form = eventually(SOON, "the application is shown", async || ann.page("/app/app3/start").await).await?;
    let seen = hidden(&form, "start", "seen")?;
    let mut fields = vec![("to", "green"), ("mode", "watch"), ("plan", "careful"), ("convert", "yes"), ("seen", &seen)];
    // What was chosen and typed stays in a form that is refused.
    let mut bad = fields.clone();
    bad.extend([("other", "green *"), ("reason", "the new side")]);
    let refused = ann.post("/app/app3/start", &bad).await?;
    ensure!(refused.status == StatusCode::UNPROCESSABLE_ENTITY, "{}", words(&refused.text));
    for kept in ["value=\"the new side\"", "value=\"green *\"", "value=\"watch\" required checked"] {
        ensure!(refused.text.contains(kept), "{kept}: {}", refused.text);
    }
    let review = ann.post("/app/app3/start", &fields).await?;
    let text = words(&review.text);
    // Gray would get ten times as much as it has.
    ensure!(text.contains("gray: 5 % now, 50 % then") && text.contains("blue: 95 % now, 50 % then"), "{text}");
    ensure!(consul.get(&key("app3")).await?.is_none(), "it was written");
    let sure = hidden(&review.text, "start", "sure")?;
    fields.push(("sure", &sure));
    let started = ann.post("/app/app3/start", &fields).await?;
    ensure!(started.status == StatusCode::SEE_OTHER, "{}", words(&started.text));
    let document: serde_json::Value = serde_json::from_slice(&consul.get(&key("app3")).await?.context("no document")?)?;
    ensure!(document["split"] == json!({"blue": 50, "gray": 50, "green": 0}), "{document}");
    // Mode auto can follow later: the spec has the steps of the plan.
    let spec: serde_json::Value =
        serde_json::from_slice(&consul.get("weightd/rollouts/spec/app3").await?.context("no spec")?)?;
    ensure!(spec["plan"]["step"].as_array().is_some_and(|steps| !steps.is_empty()), "{spec}");
    Ok(())
}
