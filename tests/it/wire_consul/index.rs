//! The index of blocking queries: which index to wait for, and an index that decreases.

use super::*;

#[tokio::test]
async fn a_change_is_published_at_once_and_an_answer_without_a_change_is_not() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    following.expect_published(&[10]);
    following.put(20).await;
    following.expect_published(&[10, 20]);
    assert_eq!(following.requests().len(), 3);
    // Three complete waits with Consul's maximum jitter: the end of a query is no proof of a change.
    following.frozen.pass(WAIT * 4, SECOND / 10).await;
    following.expect_published(&[10, 20]);
    assert_eq!(following.errors(), BTreeMap::new());
    assert!(following.requests().iter().filter(|r| r.index > 0).all(|r| r.uri.contains("wait=55000ms")));
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn a_decreased_index_causes_another_read_and_its_answer_is_not_used() -> anyhow::Result<()> {
    let following = Following::start(Some(90)).await?;
    let asked = following.requests().last().map(|r| r.index);
    assert_eq!(asked, Some(52));
    following.consul.force(answer(7, 5));
    following.pass(STEP * 3).await;
    following.expect_published(&[90]);
    let asked: Vec<u64> = following.requests().iter().map(|r| r.index).collect();
    assert_eq!(asked, [0, 52, 0, 52]);
    assert_eq!(following.held(), None);
    Ok(())
}

#[tokio::test]
async fn a_permanently_decreased_index_publishes_the_present_data() -> anyhow::Result<()> {
    let following = Following::start(Some(90)).await?;
    following.consul.restore("weightd/weights/app", &document(5), 7);
    following.consul.force(following.consul.answer(PREFIX));
    following.pass(STEP * 3).await;
    following.expect_published(&[90, 5]);
    following.put(6).await;
    following.expect_published(&[90, 5, 6]);
    let asked: Vec<u64> = following.requests().iter().map(|r| r.index).collect();
    assert_eq!(asked, [0, 52, 0, 7, 8]);
    Ok(())
}

#[tokio::test]
async fn an_index_ahead_of_consul_is_corrected_by_the_plain_read() -> anyhow::Result<()> {
    let following = Following::start(Some(90)).await?;
    // The same value and the same index as before, but from other data: only the text of the document differs.
    following.consul.restore("weightd/weights/app", &document(5), 7);
    following.pass(SECOND).await;
    following.expect_published(&[90]);
    following.pass(SECOND * 34).await;
    following.expect_published(&[90, 5]);
    assert_eq!(following.consul.blocked(), 1, "the query is still blocked");
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn a_late_answer_of_an_overtaken_query_is_not_used() -> anyhow::Result<()> {
    let following = Following::start(Some(90)).await?;
    following.consul.restore("weightd/weights/app", &document(5), 7);
    following.pass(SECOND * 35).await;
    following.expect_published(&[90, 5]);
    // Consul's behaviour at a restore: the blocked query ends with the old data and the old index.
    following.consul.force(answer(52, 90));
    following.pass(SECOND).await;
    following.expect_published(&[90, 5]);
    assert_eq!(following.requests().last().map(|r| r.index), Some(7));
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn a_failed_plain_read_does_not_make_a_late_answer_valid() -> anyhow::Result<()> {
    for fault in [Fault::status("500", 500, "rpc error"), Fault::body("a page", "<html>")] {
        let following = Following::start(Some(90)).await?;
        following.consul.next([fault]);
        following.until_held().await;
        following.consul.restore("weightd/weights/app", &document(5), 7);
        following.pass(SECOND * 8).await;
        following.expect_published(&[90, 5]);
        assert_eq!(following.consul.blocked(), 1, "the query is still blocked");
        following.consul.force(answer(52, 90));
        following.pass(SECOND).await;
        following.expect_published(&[90, 5]);
        following.consul.expect_no_extra_requests();
    }
    Ok(())
}

#[tokio::test]
async fn a_late_answer_of_a_plain_read_is_not_used() -> anyhow::Result<()> {
    let following = Following::start(Some(90)).await?;
    following.consul.next([Fault::hang()]);
    following.until_requests(3).await;
    following.put(95).await;
    following.expect_published(&[90, 95]);
    following.pass(SECOND * 12).await;
    assert_eq!(following.errors(), BTreeMap::new(), "the late answer was not awaited");
    Ok(())
}

#[tokio::test]
async fn plain_reads_pass_a_blocked_query_every_ten_seconds() -> anyhow::Result<()> {
    let following = Following::start(Some(90)).await?;
    following.frozen.pass(SECOND * 50, SECOND / 10).await;
    let plain: Vec<_> = following.requests().iter().filter(|r| r.index == 0).map(|r| r.at).collect();
    assert!((5..=6).contains(&plain.len()), "the first read, and those past the query: {plain:?}");
    for pair in plain.windows(2) {
        // 10 s, with a jitter of an eighth.
        assert!((8_700..=11_400).contains(&(pair[1] - pair[0]).as_millis()), "{plain:?}");
    }
    following.consul.expect_no_extra_requests();
    Ok(())
}
