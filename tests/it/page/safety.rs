//! What must not be possible: from other pages, with other tokens, by force.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    reading::{hidden, words},
    story,
};
use crate::{
    common::{SOON, key},
    harness::{
        Consul,
        consul::Options,
        eventually,
        page::{Page, settings, with_form},
    },
};

/// Text that would be a script, an attribute or the end of a line if it were not escaped.
const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\r\n\r\ndata: x\u{202e}&lt;";

/// A Consul with ACLs, two applications, and a page that reads with a token that can only read.
pub(super) async fn with_acls() -> anyhow::Result<(Consul, Page)> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    for name in ["app1", "app2"] {
        story::split(&consul, name, 10, "ann", "shift", 10).await?;
    }
    story::nodes(&consul, &[], &[]).await?;
    let reader = token(&consul, "page", "key_prefix \"weightd/\" { policy = \"read\" }").await?;
    let page = Page::start(&consul, Some(&reader)).await?;
    Ok((consul, page))
}

/// A new token with these rules.
pub(super) async fn token(consul: &Consul, name: &str, rules: &str) -> anyhow::Result<String> {
    consul.http().set_policy(name, rules).await?;
    consul.http().new_token(name).await
}

/// The rules of a team that owns one application.
fn team(name: &str, policy: &str) -> String {
    let keys = ["weights", "history", "freeze", "rollouts/spec", "rollouts/request", "rollouts/approval"];
    let own = keys.map(|kind| format!("key \"weightd/{kind}/{name}\" {{ policy = \"{policy}\" }}"));
    let read = ["rollouts/state", "rollouts/evidence", "rollouts/log"]
        .map(|kind| format!("key \"weightd/{kind}/{name}\" {{ policy = \"read\" }}"));
    format!(
        "{}\n{}\nkey \"weightd/freeze\" {{ policy = \"read\" }}\nkey \"weightd/controller\" {{ policy = \"read\" }}\n\
         key_prefix \"weightd/nodes/\" {{ policy = \"read\" }}\nkey_prefix \"weightd/inventory/\" {{ policy = \"read\" }}",
        own.join("\n"),
        read.join("\n")
    )
}

#[tokio::test]
async fn only_with_a_token_that_consul_knows() -> anyhow::Result<()> {
    let (_consul, page) = with_acls().await?;
    let nobody = page.nobody()?;
    for path in ["/", "/app/app1", "/app/app1/start", "/app/app1/weights", "/fleet", "/activity", "/keys", "/no/page"] {
        let answer = nobody.get(path).await?;
        ensure!(answer.status == StatusCode::SEE_OTHER, "{path}: {}", answer.status);
        ensure!(answer.header("location").starts_with("/sign-in"), "{path}: {}", answer.header("location"));
        ensure!(!answer.text.contains("app1"), "{path}");
    }
    // The script then loads the page, which asks to sign in.
    let stream = nobody.get("/events?page=/").await?;
    ensure!(stream.text == "event: over\ndata: sign in again\n\n", "{} {}", stream.status, stream.text);
    for (verb, form) in
        [("pause", ""), ("abort", ""), ("roll-back", ""), ("weights", "100"), ("start", ""), ("freeze", "")]
    {
        let answer = nobody.post(&format!("/app/app1/{verb}"), &[("share", form), ("reason", "x")]).await?;
        ensure!(answer.header("location").starts_with("/sign-in"), "{verb}: {} {}", answer.status, answer.text);
    }
    for wrong in ["", "not a token", "00000000-0000-0000-0000-00000000beef"] {
        let answer = nobody.post("/sign-in", &[("token", wrong)]).await?;
        ensure!(answer.status.is_client_error() && nobody.cookie().is_empty(), "{wrong}: {}", answer.status);
        ensure!(!answer.text.contains("0000beef"), "the token is shown again");
    }
    // Where ACLs are on, a name is not enough.
    let answer = nobody.post("/sign-in", &[("name", "ann")]).await?;
    ensure!(answer.status.is_client_error(), "{}", answer.status);
    Ok(())
}

#[tokio::test]
async fn a_team_sees_and_moves_its_own_application_and_nothing_else() -> anyhow::Result<()> {
    let (consul, page) = with_acls().await?;
    let own = page.person(&token(&consul, "team", &team("app1", "write")).await?).await?;
    let list = own.page("/").await?;
    ensure!(list.contains("app-app1") && !list.contains("app2"), "{}", words(&list));
    let activity = own.page("/activity").await?;
    ensure!(activity.contains("app1") && !activity.contains("app2"), "{}", words(&activity));
    for path in ["/app/app2", "/app/app2/start", "/app/app2/weights", "/app/app3", "/app/App1"] {
        let answer = own.get(path).await?;
        ensure!(answer.status == StatusCode::NOT_FOUND, "{path}: {}", answer.status);
        ensure!(!answer.text.replace(path, "").contains("green-*"), "{path}");
    }
    let (before, name) = (consul.get(&key("app2")).await?, "app2");
    for verb in ["abort", "roll-back", "freeze", "weights"] {
        let form = [("share", "50"), ("seen", "1"), ("reason", "x")];
        let answer = own.post(&format!("/app/{name}/{verb}"), &form).await?;
        ensure!(answer.status == StatusCode::NOT_FOUND, "{verb}: {}", answer.status);
    }
    ensure!(consul.get(&key("app2")).await? == before, "app2 changed");
    let review = own.page("/app/app1/weights?share=25&reason=a+quarter").await?;
    let seen =
        review.split("name=\"seen\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).context("no seen")?;
    let answer = own.post("/app/app1/weights", &[("share", "25"), ("reason", "a quarter"), ("seen", seen)]).await?;
    ensure!(answer.status == StatusCode::SEE_OTHER, "{}", words(&answer.text));
    let after = words(&own.page("/app/app1").await?);
    ensure!(after.contains("Written: green has 25 %"), "{after}");
    let document: serde_json::Value = serde_json::from_slice(&consul.get(&key("app1")).await?.context("no key")?)?;
    ensure!(document["split"] == json!({"blue-*": 75, "green-*": 25}), "{document}");
    ensure!(document["by"].as_str().is_some_and(|by| !by.is_empty()), "{document}");
    ensure!(document["reason"] == "a quarter", "{document}");
    Ok(())
}

#[tokio::test]
async fn a_reader_moves_nothing_and_is_told_which_right_is_missing() -> anyhow::Result<()> {
    let (consul, page) = with_acls().await?;
    let reader = page.person(&token(&consul, "reader", "key_prefix \"weightd/\" { policy = \"read\" }").await?).await?;
    let own = words(&reader.page("/app/app1").await?);
    ensure!(own.contains("Your token may not set weights and roll back"), "{own}");
    ensure!(own.contains("key &#34;weightd/weights/app1&#34;") || own.contains("weightd/weights/app1"), "{own}");
    ensure!(!own.contains("Set weights…") && !own.contains("Start a rollout…"), "{own}");
    let seen = consul.index(&key("app1")).await?.to_string();
    let before = consul.get(&key("app1")).await?;
    for (verb, right) in
        [("roll-back", "weightd/weights/app1"), ("weights", "weightd/weights/app1"), ("freeze", "weightd/freeze/app1")]
    {
        let form = [("share", "50"), ("seen", &seen), ("reason", "x")];
        let answer = reader.post(&format!("/app/app1/{verb}"), &form).await?;
        ensure!(answer.status == StatusCode::FORBIDDEN, "{verb}: {} {}", answer.status, words(&answer.text));
        ensure!(answer.text.contains(right), "{verb}: {}", words(&answer.text));
    }
    ensure!(consul.get(&key("app1")).await? == before);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_when_consul_no_longer_takes_the_token() -> anyhow::Result<()> {
    let (consul, page) = with_acls().await?;
    let secret = token(&consul, "team", &team("app1", "write")).await?;
    let own = page.person(&secret).await?;
    ensure!(own.page("/").await?.contains("app-app1"));
    consul.http().delete_token(&secret).await?;
    // A write does not wait for the next check.
    let answer = own.post("/app/app1/freeze", &[("reason", "x")]).await?;
    ensure!(
        answer.status != StatusCode::SEE_OTHER || answer.header("location").contains("sign-in"),
        "{}",
        answer.status
    );
    ensure!(consul.get("weightd/freeze/app1").await?.is_none());
    eventually(Duration::from_secs(40), "the session is over", async || {
        let answer = own.get("/").await?;
        ensure!(answer.status == StatusCode::SEE_OTHER, "{}", answer.status);
        ensure!(answer.header("location").contains("why=over"), "{}", answer.header("location"));
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    })
    .await?;
    ensure!(own.cookie().is_empty(), "the cookie stays: {}", own.cookie());
    Ok(())
}

#[tokio::test]
async fn another_page_can_neither_write_nor_frame_nor_read() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    let own = format!("http://{}", page.address);
    let origins = [
        None,
        Some("null"),
        Some("http://evil.example"),
        Some("https://127.0.0.1"),
        Some("http://127.0.0.1"),
        Some("http://127.0.0.1:1"),
        Some("http://localhost.evil.example"),
    ];
    for origin in origins {
        let mut request = ann.request(Method::POST, "/app/app1/freeze");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = ann.send(with_form(request, &[("reason", "x")])).await?;
        ensure!(answer.status == StatusCode::FORBIDDEN, "{origin:?}: {}", answer.status);
    }
    for site in ["cross-site", "same-site", "none"] {
        let request =
            ann.request(Method::POST, "/app/app1/freeze").header("origin", &own).header("sec-fetch-site", site);
        let answer = ann.send(with_form(request, &[("reason", "x")])).await?;
        ensure!(answer.status == StatusCode::FORBIDDEN, "{site}: {}", answer.status);
    }
    // Two origins are none.
    let request = ann.request(Method::POST, "/sign-out").header("origin", &own).header("origin", "http://evil.example");
    ensure!(ann.send(with_form(request, &[])).await?.status == StatusCode::FORBIDDEN);
    ensure!(consul.get("weightd/freeze/app1").await?.is_none());
    for path in ["/", "/app/app1", "/sign-in", "/no/page", "/static/no"] {
        let answer = ann.get(path).await?;
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
            "script-src 'self'",
        ] {
            ensure!(policy.contains(part), "{path}: {policy}");
        }
        ensure!(!policy.contains("unsafe"), "{policy}");
        ensure!(answer.header("x-frame-options") == "DENY" && answer.header("x-content-type-options") == "nosniff");
        ensure!(answer.header("referrer-policy") == "same-origin");
        ensure!(answer.header("cross-origin-resource-policy") == "same-origin");
        ensure!(answer.header("cache-control") == "no-store", "{path}: {}", answer.header("cache-control"));
        ensure!(answer.header("access-control-allow-origin").is_empty());
        for inline in [" style=", " onclick=", " onload=", "<style", "javascript:"] {
            ensure!(!answer.text.contains(inline), "{path} has {inline}");
        }
        ensure!(!answer.text.contains("<script>") && !answer.text.contains("//cdn"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_misdirected() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let page = Page::start(&consul, None).await?;
    let head = |host: &str| format!("GET /sign-in HTTP/1.1\r\n{host}connection: close\r\n\r\n");
    let own = format!("host: {}\r\n", page.address);
    ensure!(raw(&page, &head(&own)).await?.starts_with("HTTP/1.1 200"));
    for host in [
        "host: evil.example\r\n".to_owned(),
        "host: 127.0.0.1.evil.example\r\n".to_owned(),
        "host: evil.example:80\r\n".to_owned(),
        "host: 127.0.0.1@evil.example\r\n".to_owned(),
        "host: \r\n".to_owned(),
        String::new(),
        format!("{own}host: evil.example\r\n"),
        format!("host: evil.example\r\nx-forwarded-host: {}\r\n", page.address),
    ] {
        let answer = raw(&page, &head(&host)).await?;
        ensure!(answer.starts_with("HTTP/1.1 421") || answer.starts_with("HTTP/1.1 400"), "{host:?}: {answer}");
    }
    // The address in the request line counts too.
    let absolute = format!("GET http://evil.example/sign-in HTTP/1.1\r\n{own}connection: close\r\n\r\n");
    ensure!(raw(&page, &absolute).await?.starts_with("HTTP/1.1 421"));
    Ok(())
}

/// Sends bytes, and reads the answer.
pub(super) async fn raw(page: &Page, bytes: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(page.address).await?;
    stream.write_all(bytes.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.context("no answer")??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn every_text_from_consul_is_escaped() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::split(&consul, "app1", 10, EVIL, "shift", 10).await?;
    let document =
        json!({"split": {"blue-*": 90, "green-*": 10}, "by": EVIL, "reason": EVIL, "at": "2026-11-21T10:00:00Z"});
    consul.put(&key("app1"), document.to_string()).await?;
    consul.put(&key("app2"), EVIL).await?;
    consul.put(&key("a<b>"), "{}").await?;
    consul.put("weightd/freeze", json!({"by": EVIL, "reason": EVIL}).to_string()).await?;
    consul
        .put("weightd/controller", json!({"v": 1, "name": EVIL, "since": "2026-11-21T10:00:00Z"}).to_string())
        .await?;
    story::Told::new("app3").write(&consul).await?;
    let log = json!({"v": 1, "events": [{"rollout": "app3-1", "at": "2026-11-21T10:00:00Z", "what": EVIL, "detail": EVIL, "by": EVIL}]});
    consul.put("weightd/rollouts/log/app3", log.to_string()).await?;
    story::nodes(&consul, &[("lb-01", "app1", EVIL)], &[]).await?;
    let page = Page::start(&consul, None).await?;
    let evil = page.named("<b>&\"'ann").await?;
    let mut shown = 0;
    for path in [
        "/",
        "/app/app1",
        "/app/app2",
        "/app/app3",
        "/app/app1/weights?share=25&reason=%3Cscript%3E",
        "/fleet",
        "/activity",
        "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/app/%3Cscript%3E",
        "/activity?q=%22%3E%3Cscript%3E",
    ] {
        let answer = evil.get(path).await?;
        ensure!(!answer.text.contains("<script>"), "{path}");
        ensure!(!answer.text.contains("<img") && !answer.text.contains("<b>&\"'ann"), "{path}");
        shown += usize::from(
            answer.text.contains("&#60;script&#62;alert(1)") || answer.text.contains("&lt;script&gt;alert(1)"),
        );
    }
    ensure!(shown >= 4, "the texts are shown on {shown} pages only");
    // In the stream a line break is not the end of an event.
    let mut stream = evil.request(Method::GET, "/events?page=/app/app3").send().await?;
    let mut events = String::new();
    timeout(SOON, async {
        while !events.contains("event: clock") {
            let Some(chunk) = stream.chunk().await? else { break };
            events.push_str(&String::from_utf8_lossy(&chunk));
        }
        anyhow::Ok(())
    })
    .await??;
    ensure!(!events.contains("<script>"), "{events}");
    for line in events.lines().filter(|line| !line.is_empty()) {
        let known = ["event: ", "data: ", "data", "id: ", ":"].iter().any(|start| line.starts_with(start));
        ensure!(known && !line.starts_with("data: x\u{202e}"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn no_token_is_in_a_page_an_address_or_a_cookie() -> anyhow::Result<()> {
    let (consul, page) = with_acls().await?;
    let secret = token(&consul, "team", &team("app1", "write")).await?;
    let own = page.person(&secret).await?;
    ensure!(!own.cookie().contains(&secret) && !own.cookie().is_empty(), "{}", own.cookie());
    for path in
        ["/", "/app/app1", "/app/app1/start", "/app/app1/weights?share=25", "/fleet", "/activity", "/keys", "/sign-in"]
    {
        let answer = own.get(path).await?;
        ensure!(!answer.text.contains(&secret), "{path}");
        ensure!(!format!("{:?}", answer.headers).contains(&secret), "{path}");
    }
    // A cookie that was changed, or is of another page, is nothing.
    for cookie in
        ["rollouts=x", "rollouts=", &format!("rollouts={secret}"), &own.cookie().replace("rollouts=", "rollouts=A")]
    {
        let other = page.nobody()?;
        other.steal(cookie);
        ensure!(other.get("/").await?.status == StatusCode::SEE_OTHER, "{cookie}");
    }
    Ok(())
}

#[tokio::test]
async fn signing_in_always_gives_a_new_session() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let page = Page::start(&consul, None).await?;
    let visitor = page.nobody()?;
    visitor.steal("rollouts=chosen-by-an-attacker");
    let answer = visitor.post("/sign-in", &[("name", "ann"), ("to", "https://evil.example/")]).await?;
    ensure!(answer.header("location") == "/", "{}", answer.header("location"));
    let set = answer.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        ensure!(set.contains(part), "{set}");
    }
    ensure!(!set.contains("Domain") && !set.contains("Expires") && !visitor.cookie().contains("chosen"), "{set}");
    let (first, second) = (page.named("ann").await?.cookie(), page.named("ann").await?.cookie());
    ensure!(first != second, "the same session twice");
    let out = visitor.post("/sign-out", &[]).await?;
    ensure!(
        out.header("set-cookie").contains("Max-Age=0") && visitor.cookie().is_empty(),
        "{}",
        out.header("set-cookie")
    );
    // Also the answer to the last action, which is not for the next person.
    let ended =
        |name: &str| out.headers.get_all("set-cookie").iter().any(|set| set.as_bytes().starts_with(name.as_bytes()));
    ensure!(ended("rollouts=;") && ended("rollouts-answer=;"), "{:?}", out.headers);
    Ok(())
}

#[tokio::test]
async fn behind_tls_the_cookie_is_secure_and_of_this_host_alone() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let page = Page::with(crate::harness::page::Settings { behind_proxy: true, ..settings(&consul, None)? }).await?;
    let visitor = page.nobody()?;
    let request = visitor.request(Method::POST, "/sign-in").header("origin", "https://localhost");
    let answer = visitor.send(with_form(request, &[("name", "ann")])).await?;
    let set = answer.header("set-cookie");
    ensure!(set.starts_with("__Host-rollouts=") && set.ends_with("Secure"), "{} {set}", answer.status);
    ensure!(answer.header("strict-transport-security").starts_with("max-age="));
    // A page without TLS is another origin.
    let request = visitor.request(Method::POST, "/sign-out").header("origin", "http://localhost");
    ensure!(visitor.send(with_form(request, &[])).await?.status == StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn two_pages_with_the_same_keys_know_the_same_people() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let dir = tempfile::tempdir()?;
    let keys = dir.path().join("keys");
    std::fs::write(&keys, "a".repeat(64))?;
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let with_keys =
        || anyhow::Ok(crate::harness::page::Settings { key_file: Some(keys.clone()), ..settings(&consul, None)? });
    let (one, two) = (Page::with(with_keys()?).await?, Page::with(with_keys()?).await?);
    let (ann, same) = (one.named("ann").await?, two.nobody()?);
    same.steal(&ann.cookie());
    ensure!(same.get("/").await?.status == StatusCode::OK);
    let other = Page::start(&consul, None).await?.nobody()?;
    other.steal(&ann.cookie());
    ensure!(other.get("/").await?.status == StatusCode::SEE_OTHER, "keys of its own");
    Ok(())
}

#[tokio::test]
async fn what_the_person_did_not_see_is_not_overwritten() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    story::split(&consul, "app1", 10, "ann", "shift", 10).await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    let seen = consul.index(&key("app1")).await?.to_string();
    let target = hidden(&ann.page("/app/app1").await?, "roll-back", "target")?;
    story::split(&consul, "app1", 30, "m.keller", "shift", 1).await?;
    eventually(SOON, "the change is shown", async || {
        ensure!(words(&ann.page("/app/app1").await?).contains("green 30 %"));
        Ok(())
    })
    .await?;
    let answer = ann.post("/app/app1/weights", &[("share", "50"), ("seen", &seen)]).await?;
    ensure!(answer.status == StatusCode::CONFLICT, "{}", answer.status);
    ensure!(
        words(&answer.text).contains("Nothing was written. m.keller changed the weights"),
        "{}",
        words(&answer.text)
    );
    let text = String::from_utf8_lossy(&consul.get(&key("app1")).await?.context("no key")?).into_owned();
    ensure!(text.contains("m.keller"), "{text}");
    // Roll back goes through all the same: it goes to the same state.
    let fields = [("seen", seen.as_str()), ("target", &target), ("reason", "worse")];
    let answer = ann.post("/app/app1/roll-back", &fields).await?;
    ensure!(answer.status == StatusCode::SEE_OTHER, "{}", words(&answer.text));
    let after = words(&ann.page("/app/app1").await?);
    ensure!(after.contains("Rolled back: split blue-*=100% green-*=0%") || after.contains("Rolled back"), "{after}");
    let document: serde_json::Value = serde_json::from_slice(&consul.get(&key("app1")).await?.context("no key")?)?;
    ensure!(document["split"]["green-*"] == 0, "{document}");
    Ok(())
}

#[tokio::test]
async fn a_roll_back_to_another_state_than_the_one_that_was_shown_writes_nothing() -> anyhow::Result<()> {
    const DAY: u64 = 24 * 60 * 60;
    let consul = Consul::start().await?;
    let entry = |index: Option<u64>, green: u32, by: &str, way: &str, seconds: u64| {
        let to = json!({"split": {"blue-*": 100 - green, "green-*": green}});
        json!({"index": index, "at": story::ago(seconds).to_string(), "by": by, "way": way, "to": to})
    };
    let write = async |green: u32, by: &str, entries: &[serde_json::Value]| {
        let document = json!({"split": {"blue-*": 100 - green, "green-*": green}, "by": by});
        consul.put(&key("app1"), document.to_string()).await?;
        consul.put("weightd/history/app1", json!({"v": 1, "entries": entries}).to_string()).await
    };
    let first = entry(Some(1), 0, "ann", "create", 20 * DAY);
    write(100, "ann", &[entry(None, 100, "ann", "shift", 10 * DAY), first.clone()]).await?;
    let page = Page::start(&consul, None).await?;
    let ann = page.named("ann").await?;
    let seen = consul.index(&key("app1")).await?.to_string();
    let target = hidden(&ann.page("/app/app1").await?, "roll-back", "target")?;
    // Green fails, and bob is faster. A roll back of what he wrote would be green again.
    let rest = entry(Some(2), 100, "ann", "shift", 10 * DAY);
    write(0, "bob", &[entry(None, 0, "bob", "set", 1), rest, first]).await?;
    let fields = [("seen", seen.as_str()), ("target", &target)];
    let answer = ann.post("/app/app1/roll-back", &fields).await?;
    ensure!(answer.status == StatusCode::CONFLICT, "{} {}", answer.status, words(&answer.text));
    ensure!(words(&answer.text).contains("another state than the one you saw"), "{}", words(&answer.text));
    let document: serde_json::Value = serde_json::from_slice(&consul.get(&key("app1")).await?.context("no key")?)?;
    ensure!(document["split"]["green-*"] == 0 && document["by"] == "bob", "{document}");
    Ok(())
}
