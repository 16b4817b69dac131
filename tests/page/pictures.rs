//! Each page at three widths, dark and light. The pictures are kept in `target/page`.

use std::{fs, path::PathBuf};

use anyhow::ensure;

use crate::{
    browser::{Browser, Look, SOON},
    harness::{Consul, eventually, page::Page},
    story,
};

/// The folder of the pictures.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    target.join("page")
}

/// A page on the story, and a browser in which ann is signed in.
pub(crate) async fn at_the_desk() -> anyhow::Result<(Consul, Page, Browser)> {
    let consul = Consul::start().await?;
    story::tell(&consul).await?;
    let page = Page::start(&consul, None).await?;
    let browser = Browser::start().await?;
    browser.look(Look::DESK).await?;
    sign_in(&browser, &page, "ann").await?;
    Ok((consul, page, browser))
}

/// Signs in with a name.
pub(crate) async fn sign_in(browser: &Browser, page: &Page, name: &str) -> anyhow::Result<()> {
    browser.open(&page.url("/sign-in")).await?;
    browser.write(name).await?;
    browser.press("Enter").await?;
    eventually(SOON, "signed in", async || {
        let text = browser.text().await?;
        ensure!(text.contains("Sign out"), "{text}");
        Ok(())
    })
    .await?;
    browser.loaded().await
}

#[tokio::test]
async fn each_page_is_whole_at_three_widths_dark_and_light() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::tell(&consul).await?;
    let page = Page::start(&consul, None).await?;
    let browser = Browser::start().await?;
    browser.look(Look::DESK).await?;
    let folder = folder();
    fs::create_dir_all(&folder)?;
    sign_in(&browser, &page, "l.martin").await?;
    let pages = [
        ("applications", "/"),
        ("rolling", "/app/checkout"),
        ("rolled-back", "/app/coupons"),
        ("waiting", "/app/login"),
        ("holds", "/app/search"),
        ("guard", "/app/profile"),
        ("steady", "/app/ads"),
        ("start", "/app/ads/start"),
        ("weights", "/app/images/weights?share=25"),
        ("fleet", "/fleet"),
        ("activity", "/activity"),
        ("missing", "/app/chekout"),
        ("keys", "/keys"),
    ];
    for (name, path) in pages {
        for width in [390, 768, 1280] {
            for dark in [false, true] {
                let look = Look { width, height: 844, dark, touch: width == 390 };
                browser.look(look).await?;
                browser.open(&page.url(path)).await?;
                // Nothing is wider than the screen.
                let wide = browser.script("document.documentElement.scrollWidth - innerWidth").await?;
                let scheme = if dark { "dark" } else { "light" };
                fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), browser.picture(true).await?)?;
                ensure!(wide.as_i64().is_some_and(|wide| wide <= 0), "{name} at {width}: {wide} too wide");
            }
        }
        let complaints = browser.complaints().await?;
        ensure!(complaints.is_empty() || name == "missing", "{name}: {complaints:#?}");
    }
    // The two pictures of the README.
    browser.look(Look { width: 1160, height: 620, ..Look::DESK }).await?;
    browser.open(&page.url("/")).await?;
    browser.shows("Live").await?;
    fs::write(folder.join("readme-applications.png"), browser.picture(false).await?)?;
    browser.open(&page.url("/app/checkout")).await?;
    browser.shows("Live").await?;
    fs::write(folder.join("readme-application.png"), browser.picture(false).await?)?;
    browser.look(Look { dark: true, ..Look::PHONE }).await?;
    browser.open(&page.url("/app/checkout")).await?;
    browser.touch(".act.back > summary").await?;
    fs::write(folder.join("roll-back-390-dark.png"), browser.picture(false).await?)?;
    browser.look(Look::DESK).await?;
    browser.open(&page.url("/app/checkout")).await?;
    browser.press("r").await?;
    fs::write(folder.join("roll-back-1280-light.png"), browser.picture(false).await?)?;
    browser.stop().await
}
