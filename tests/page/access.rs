//! Accessibility, by an engine from the npm registry.

use std::{fs, path::PathBuf};

use anyhow::ensure;
use serde_json::Value;

use crate::{browser::Look, pictures::at_the_desk};

/// The engine; none if npm is not there.
fn engine() -> Option<String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    fs::read_to_string(target.join("axe/node_modules/axe-core/axe.min.js")).ok()
}

#[tokio::test]
async fn no_serious_finding_on_any_page() -> anyhow::Result<()> {
    let Some(engine) = engine() else {
        eprintln!("axe-core is not there: nothing is checked; `make page-test` gets it where npm is there");
        return Ok(());
    };
    let (_consul, page, browser) = at_the_desk().await?;
    let (mut all, mut lowest) = (Vec::new(), f64::INFINITY);
    for path in [
        "/",
        "/app/checkout",
        "/app/coupons",
        "/app/login",
        "/app/ads",
        "/app/ads/start",
        "/app/images/weights?share=25",
        "/fleet",
        "/activity",
        "/keys",
        "/app/none",
        "/?q=none",
    ] {
        for look in [Look::DESK, Look { dark: true, ..Look::DESK }, Look::PHONE] {
            browser.look(look).await?;
            browser.open(&page.url(path)).await?;
            // What a person opens is a part of the page.
            browser
                .script("document.querySelectorAll('main > details, .act').forEach((d, n) => { d.open = n === 0 })")
                .await?;
            browser.script(&engine).await?;
            let found = browser
                .script("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then((r) => ({bad: r.violations.map((v) => ({id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map((n) => n.html + ' ' + n.failureSummary)})), contrast: r.passes.filter((p) => p.id === 'color-contrast').flatMap((p) => p.nodes.flatMap((n) => n.any.map((a) => a.data && a.data.contrastRatio))).filter((c) => c)}))")
                .await?;
            for finding in found["bad"].as_array().into_iter().flatten() {
                all.push(format!("{path} {look:?}: {finding}"));
            }
            let contrast = found["contrast"].as_array().into_iter().flatten().filter_map(Value::as_f64);
            lowest = contrast.fold(lowest, f64::min);
        }
    }
    println!("accessibility: {} findings, the lowest contrast of a text is {lowest:.1}:1", all.len());
    let serious: Vec<_> =
        all.iter().filter(|finding| finding.contains("\"serious\"") || finding.contains("\"critical\"")).collect();
    for finding in &all {
        println!("{finding}");
    }
    ensure!(serious.is_empty(), "{serious:#?}");
    browser.stop().await
}
