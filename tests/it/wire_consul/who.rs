//! The identity and the scope of requests to Consul.

use secrecy::SecretString;

use super::*;

#[tokio::test]
async fn token_password_and_scope_are_sent_in_their_headers_and_parameters() -> anyhow::Result<()> {
    let following = Following::start_with(Some(10), |settings| Settings {
        token: TokenSource::Value(SecretString::from("t0ken")),
        auth: Some(SecretString::from("user:pass word")),
        datacenter: Some("dc2".to_owned()),
        namespace: Some("team".to_owned()),
        partition: Some("edge".to_owned()),
        ..settings
    })
    .await?;
    following.put(20).await;
    following.frozen.pass(SECOND * 40, SECOND / 10).await;
    following.expect_published(&[10, 20]);
    let requests = following.requests();
    assert!(requests.len() >= 4);
    for Seen { uri, headers, index, .. } in &requests {
        assert_eq!(headers["x-consul-token"], "t0ken");
        assert_eq!(headers["authorization"], "Basic dXNlcjpwYXNzIHdvcmQ=");
        let waiting = if *index > 0 { format!("&index={index}&wait=55000ms") } else { String::new() };
        assert_eq!(*uri, format!("/v1/kv/{PREFIX}?recurse{waiting}&dc=dc2&ns=team&partition=edge"));
        assert!(!uri.contains("t0ken") && !uri.contains("stale") && !uri.contains("cached"));
    }
    Ok(())
}

#[tokio::test]
async fn without_a_token_none_is_sent() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    for Seen { uri, headers, .. } in following.requests() {
        assert!(!headers.contains_key("x-consul-token") && !headers.contains_key("authorization"));
        assert!(uri.starts_with("/v1/kv/weightd/weights/?recurse"), "{uri}");
    }
    Ok(())
}

#[tokio::test]
async fn a_rotated_token_file_is_read_again_after_a_403() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("token");
    rotate(&path, "old\n")?;
    let following =
        Following::start_with(Some(10), |settings| Settings { token: TokenSource::File(path.clone()), ..settings })
            .await?;
    let tokens = || {
        let requests = following.requests();
        requests.iter().map(|r| r.headers.get("x-consul-token").cloned().unwrap_or_default()).collect::<Vec<_>>()
    };
    following.consul.all(Some(Fault::status("403", 403, "ACL not found")));
    following.frozen.settle().await;
    assert_eq!(following.held(), Some("denied"));
    // The file is empty while it is being written. An empty token must not become the anonymous token.
    std::fs::write(&path, "")?;
    following.pass(SECOND * 2).await;
    assert!(tokens().iter().all(|token| token == "old"), "{:?}", tokens());
    rotate(&path, "new\n")?;
    following.pass(SECOND * 10).await;
    assert_eq!(tokens().last().map(String::as_str), Some("new"));
    assert!(tokens().iter().all(|token| token == "old" || token == "new"), "{:?}", tokens());
    following.consul.all(None);
    following.frozen.pass(SECOND * 11, SECOND / 10).await;
    assert_eq!(following.held(), None);
    following.put(20).await;
    following.expect_published(&[10, 20]);
    Ok(())
}

#[tokio::test]
async fn a_token_that_a_plain_read_finds_rejected_is_replaced_while_the_query_is_blocked() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("token");
    rotate(&path, "old")?;
    let following =
        Following::start_with(Some(10), |settings| Settings { token: TokenSource::File(path.clone()), ..settings })
            .await?;
    rotate(&path, "new")?;
    following.consul.next([Fault::status("403", 403, "ACL not found")]);
    following.frozen.pass(SECOND * 50, SECOND / 10).await;
    assert_eq!(following.held(), None);
    let last = following.requests().last().cloned();
    assert_eq!(last.map(|r| (r.index, r.headers["x-consul-token"].clone())), Some((0, "new".to_owned())));
    following.put(20).await;
    following.expect_published(&[10, 20]);
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn a_token_file_that_is_created_later_is_waited_for() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("token");
    let following =
        Following::start_with(Some(10), |settings| Settings { token: TokenSource::File(path.clone()), ..settings })
            .await?;
    following.pass(SECOND).await;
    assert_eq!(following.held(), Some("token"));
    assert!(following.requests().is_empty(), "no request was sent without a token");
    rotate(&path, "late")?;
    following.pass(SECOND * 10).await;
    following.expect_published(&[10]);
    Ok(())
}
