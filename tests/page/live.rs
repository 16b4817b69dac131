//! What an open tab shows of what happens meanwhile.

use anyhow::ensure;
use serde_json::json;

use crate::{browser::Look, pictures::at_the_desk, story::Told};

/// How many rows the open page says that it lacks; empty while it lacks none.
const LACKS: &str = "unseen.hidden ? '' : unseen.querySelector('b').textContent";

/// The rows, and where they are.
const ROWS: &str =
    "[...document.querySelectorAll('.apps th a')].map((a) => a.text + a.getBoundingClientRect().top).join()";

#[tokio::test]
async fn what_belongs_elsewhere_by_now_is_counted_and_no_row_moves() -> anyhow::Result<()> {
    let (consul, page, browser) = at_the_desk().await?;
    browser.open(&page.url("/?state=person")).await?;
    browser.shows("Live").await?;
    let rows = browser.script(ROWS).await?;
    ensure!(browser.script(LACKS).await? == "", "it lacks nothing");
    // One that is not on the page needs a person, and what is on it does not any more.
    Told::new("checkout").held("no_data", "no counts from lb-05").write(&consul).await?;
    Told::new("search").write(&consul).await?;
    browser.shows("not on this page: 2. Show").await?;
    ensure!(browser.script(ROWS).await? == rows, "a row moved");
    // One comes back.
    Told::new("search").held("no_data", "no counts from lb-05").write(&consul).await?;
    browser.shows("not on this page: 1. Show").await?;
    // On a telephone nothing moves either.
    browser.look(Look::PHONE).await?;
    browser.open(&page.url("/?state=person")).await?;
    browser.shows("Live").await?;
    let rows = browser.script(ROWS).await?;
    Told::new("search").write(&consul).await?;
    browser.shows("not on this page: 1. Show").await?;
    ensure!(browser.script(ROWS).await? == rows, "a row moved");
    browser.touch("#unseen a").await?;
    browser.loaded().await?;
    browser.shows("Live").await?;
    ensure!(browser.script(LACKS).await? == "" && browser.text().await?.contains("checkout"), "it is shown");
    // The controller goes.
    browser.shows("ctl-1 leads").await?;
    consul.delete("weightd/controller").await?;
    browser.shows("no controller leads").await?;
    // A node that is not on the page.
    browser.open(&page.url("/fleet")).await?;
    browser.shows("Live").await?;
    let report = json!({
        "v": 1, "node": "lb-09", "version": "0.1.0", "mode": "enforce", "machine": "m-lb-09", "incarnation": "i1",
        "instances": [], "applied_index": 1, "recent": [], "out": [], "lacks": [], "backends": 0, "filtered": false, "cut": {},
    });
    consul.put("weightd/nodes/lb-09", report.to_string()).await?;
    browser.shows("Nodes that are not on this page: 1. Show").await?;
    browser.shows("of 6 nodes in sync").await?;
    let title = browser.script("document.title").await?;
    ensure!(title.as_str().is_some_and(|title| title.contains("of 6 nodes in sync")), "{title}");
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    browser.stop().await
}
