//! What the page shows.

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;

use super::story::{self, Told};
use crate::{
    common::SOON,
    harness::{Consul, eventually, page::Page},
};

/// The value of a hidden field in the form of a verb.
pub(super) fn hidden(page: &str, verb: &str, name: &str) -> anyhow::Result<String> {
    let of_verb = |form: &&str| {
        form.split('>').next().is_some_and(|tag| tag.contains("post") && tag.contains(&format!("/{verb}\"")))
    };
    let form = page.split("<form ").skip(1).find(of_verb).with_context(|| format!("no {verb}: {}", words(page)))?;
    let form = form.split("</form>").next().unwrap_or_default();
    let value = form.split_once(&format!("name=\"{name}\" value=\"")).with_context(|| format!("no {name}: {form}"))?.1;
    Ok(value.split('"').next().unwrap_or_default().to_owned())
}

/// Without tags.
pub(super) fn words(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            c if !inside => text.push(if c == '\u{a0}' { ' ' } else { c }),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn every_state_has_its_words() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::tell(&consul).await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    let list = ann.page("/").await?;
    for (name, title) in story::WORDS {
        let row = list.split("<tr id=\"app-").find(|row| row.starts_with(&format!("{name}\"")));
        let row = words(row.unwrap_or_default());
        ensure!(row.contains(title), "{name}: {row}");
    }
    ensure!(words(&list).contains("17 applications 6 need a person, 6 under way, 5 steady"), "{}", words(&list));
    ensure!(words(&list).contains("lb-05 is missing"));
    for (name, title) in story::WORDS {
        let own = words(&ann.page(&format!("/app/{name}")).await?);
        ensure!(own.contains(name), "{own}");
        let _ = title;
    }
    let coupons = words(&ann.page("/app/coupons").await?);
    ensure!(
        coupons.contains(
            "In the last step green failed 47 of 2,480 requests (1.9 %). Beside it, blue failed 4 of 7,524 (0.053 %)."
        ),
        "{coupons}"
    );
    let checkout = words(&ann.page("/app/checkout").await?);
    ensure!(checkout.contains("Bakes at 10 %, and green is no worse"), "{checkout}");
    ensure!(checkout.contains("Baked 12:48 of 30:00") && checkout.contains("17 of 33,812"), "{checkout}");
    let fleet = words(&ann.page("/fleet").await?);
    ensure!(fleet.contains("2 of 5 nodes in sync") && fleet.contains("lb-05 Missing"), "{fleet}");
    let activity = words(&ann.page("/activity").await?);
    ensure!(activity.contains("Rolled back") && activity.contains("green 5 → 10 %"), "{activity}");
    Ok(())
}

#[tokio::test]
async fn a_rollout_whose_keys_cannot_be_read_needs_a_person() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    for name in ["checkout", "search", "epg"] {
        Told::new(name).write(&consul).await?;
    }
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    consul.put("weightd/rollouts/state/checkout", r#"{"v":2}"#).await?;
    consul.put("weightd/rollouts/spec/search", "no").await?;
    consul.delete("weightd/rollouts/spec/epg").await?;
    let bad = [
        ("checkout", "the state of the rollout cannot be read: the value has version 2; this program reads version 1"),
        ("search", "the spec of the rollout cannot be read: the value is malformed"),
        ("epg", "the spec of the rollout cannot be read: the key was deleted"),
    ];
    eventually(SOON, "the list says it", async || {
        let list = words(&ann.page("/").await?);
        ensure!(list.contains("3 need a person"), "{list}");
        for (_, why) in bad {
            ensure!(list.contains(&format!("Rollout cannot be read {why}")), "{list}");
        }
        Ok(())
    })
    .await?;
    for (name, why) in bad {
        let own = words(&ann.page(&format!("/app/{name}")).await?);
        let why = format!("T{}", &why[1..]);
        ensure!(own.contains("Rollout cannot be read") && own.contains(&why), "{own}");
    }
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_not_there_reads_like_one_that_may_not_be_read() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::split(&consul, "checkout", 10, "ann", "shift", 10).await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    let answer = ann.get("/app/chekout").await?;
    ensure!(answer.status == StatusCode::NOT_FOUND && words(&answer.text).contains("Open checkout"), "{}", answer.text);
    let missing = ann.get("/no/such/page").await?;
    ensure!(missing.status == StatusCode::NOT_FOUND, "{}", missing.status);
    Ok(())
}

#[tokio::test]
async fn a_change_in_consul_is_on_the_page_at_once() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    ensure!(words(&ann.page("/").await?).contains("No application yet"));
    story::split(&consul, "checkout", 10, "ann", "shift", 10).await?;
    eventually(SOON, "the application is listed", async || {
        ensure!(ann.page("/").await?.contains("app-checkout"));
        Ok(())
    })
    .await
}
