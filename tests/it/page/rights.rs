//! The token of the page: its policy allows what the page reads, and nothing else.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::Method;

use super::{reading::words, story};
use crate::{
    common::{SOON, key},
    harness::{
        Consul,
        consul::Options,
        eventually,
        page::{Page, settings},
    },
};

/// The rules of the policy file, without comments.
fn rules() -> anyhow::Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("consul/page.hcl");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

#[tokio::test]
async fn each_rule_of_the_policy_is_needed_and_none_writes() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    story::tell(&consul).await?;
    let person = consul.token().context("no token")?.to_owned();
    let rules = rules()?;
    ensure!(rules.len() > 8, "{rules:?}");
    consul.http().set_policy("page", &rules.join("\n")).await?;
    let token = consul.http().new_token("page").await?;
    let page = Page::start(&consul, Some(&token)).await?;
    let ann = page.person(&person).await?;
    let list = words(&ann.page("/").await?);
    ensure!(list.contains("17 applications") && !list.contains("may not read"), "{list}");
    // It can write nothing at all.
    for key in
        ["weights/ads", "history/ads", "freeze", "freeze/ads", "rollouts/request/ads", "controller", "nodes/lb-01"]
    {
        let put = consul.http().with_token(&token).request(Method::PUT, &format!("kv/weightd/{key}")).body("{}");
        let status = put.send().await?.status();
        ensure!(status == reqwest::StatusCode::FORBIDDEN, "{key}: {status}");
    }
    for without in &rules {
        let others: Vec<_> = rules.iter().filter(|rule| *rule != without).cloned().collect();
        consul.http().set_policy("less", &others.join("\n")).await?;
        let token = consul.http().new_token("less").await?;
        let page =
            Page::with(crate::harness::page::Settings { metrics: None, ..settings(&consul, Some(&token))? }).await?;
        let ann = page.person(&person).await?;
        eventually(SOON, without, async || {
            let shown = words(&ann.page("/").await?);
            ensure!(shown.contains("The token of this page may not read everything"), "{shown}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        })
        .await?;
        page.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn an_application_that_is_written_later_is_there_for_who_may_see_it() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    let person = consul.token().context("no token")?.to_owned();
    consul.http().set_policy("page", &rules()?.join("\n")).await?;
    let page = Page::start(&consul, Some(&consul.http().new_token("page").await?)).await?;
    let ann = page.person(&person).await?;
    for number in 0..3 {
        // One key for each server, and one key for all.
        consul.put(&format!("weightd/weights/leaves-{number}/blue"), "90").await?;
        consul.put(&format!("weightd/weights/leaves-{number}/green"), "10").await?;
        consul.put(&key(&format!("document-{number}")), r#"{"weights":{"blue":90}}"#).await?;
        for name in [format!("leaves-{number}"), format!("document-{number}")] {
            eventually(SOON, &name, async || {
                let answer = ann.get(&format!("/app/{name}")).await?;
                ensure!(answer.status == reqwest::StatusCode::OK, "{}", answer.status);
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}
