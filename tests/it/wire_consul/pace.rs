//! The rate of requests: single changes never wait, many changes are rate-limited, errors cause a backoff.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn endless_immediate_answers_are_rate_limited() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    following.consul.all(Some(Fault::at_once()));
    following.pass(SECOND * 20).await;
    let requests = following.requests().len();
    assert!((1500..=5 + 2000 + 2).contains(&requests), "{requests} requests in 20 s");
    following.expect_published(&[10]);
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn many_changes_are_rate_limited_and_the_last_one_arrives_within_20_ms() -> anyhow::Result<()> {
    let following = Following::start(Some(0)).await?;
    for n in 0..2000 {
        following.consul.put("weightd/weights/app", &document(n % 256));
        following.frozen.pass(SECOND / 500, SECOND / 500).await;
    }
    following.consul.put("weightd/weights/app", &document(256));
    following.pass(SECOND / 50).await;
    let requests = following.requests().len();
    assert!(requests <= 5 + 400 + 4, "{requests} requests in 4 s");
    let published = following.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(published.last(), Some(&Some(256)));
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn changes_further_apart_never_wait() -> anyhow::Result<()> {
    let following = Following::start(Some(0)).await?;
    let mut expected = vec![0];
    for n in 1..50 {
        following.pass(SECOND / 50).await;
        following.consul.put("weightd/weights/app", &document(n));
        following.frozen.settle().await;
        expected.push(n);
        following.expect_published(&expected);
    }
    Ok(())
}

#[tokio::test]
async fn an_absent_prefix_that_wakes_at_every_write_is_read_about_once_per_second() -> anyhow::Result<()> {
    let following = Following::start(None).await?;
    for _ in 0..2000 {
        following.consul.put("elsewhere", "x");
        following.pass(STEP).await;
    }
    let requests = following.requests().len();
    assert!((15..=5 + 20 + 2).contains(&requests), "{requests} requests in 20 s");
    assert!(following.link.borrow().empty);
    following.put(10).await;
    following.pass(SECOND + STEP).await;
    let published = following.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(published, [None, Some(10)]);
    // The slow rate has no later effect: each of the following changes arrives at once.
    for green in [20, 30, 40] {
        following.pass(SECOND * 7 / 10).await;
        following.put(green).await;
        following.pass(SECOND / 10).await;
        let published = following.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(published.last(), Some(&Some(green)));
    }
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn the_wait_that_consul_requests_is_respected() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    following.consul.next([Fault::status("500", 500, ""), Fault::rate_limited(20)]);
    following.put(20).await;
    following.until_requests(4).await;
    let asked = following.requests().len();
    following.pass(SECOND * 19).await;
    assert_eq!(following.requests().len(), asked, "too early");
    assert_eq!(following.held(), Some("rate_limited"));
    following.pass(SECOND * 2).await;
    assert_eq!(following.held(), None);
    following.expect_published(&[10, 20]);
    Ok(())
}

#[tokio::test]
async fn a_query_without_an_answer_holds_the_weights_long_before_its_time_limit() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    // The blocked query may wait for a long time. The plain read beside it is answered at once, unless Consul hangs.
    following.consul.next([Fault::hang(), Fault::hang()]);
    following.frozen.pass(SECOND * 9, SECOND / 10).await;
    assert_eq!(following.held(), None);
    following.frozen.pass(SECOND * 6, SECOND / 10).await;
    assert_eq!(following.held(), Some("overdue"), "within 15 s");
    assert_eq!(following.consul.blocked(), 1, "the query continues");
    following.expect_published(&[10]);
    // An answer to the query ends it.
    following.put(20).await;
    following.expect_published(&[10, 20]);
    assert_eq!(following.held(), None);
    Ok(())
}

#[tokio::test]
async fn errors_back_off_with_growing_jittered_pauses_without_an_end() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    let started = following.requests().len();
    following.consul.all(Some(Fault::status("500", 500, "No cluster leader")));
    following.frozen.pass(SECOND * 300, SECOND / 20).await;
    let at: Vec<Instant> = following.requests()[started..].iter().map(|r| r.at).collect();
    let pauses: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let slack = SECOND / 20 + STEP;
    // The first attempt precedes the first request that is counted here.
    for (number, pause) in (1..).zip(&pauses) {
        let most = (SECOND / 5 * 2u32.pow(number.min(10))).min(SECOND * 10) + slack;
        assert!((SECOND / 10..=most).contains(pause), "pause {number} of {pauses:?}");
    }
    assert!(pauses.len() > 20, "the retries continue: {pauses:?}");
    assert!(pauses.iter().any(|pause| *pause > SECOND * 6), "the pauses grow: {pauses:?}");
    assert!(pauses[10..].iter().any(|pause| *pause < SECOND * 4), "the pauses are jittered: {pauses:?}");
    assert_eq!(following.held(), Some("unavailable"));

    // A good answer resets the pauses.
    following.consul.all(None);
    following.frozen.pass(SECOND * 11, SECOND / 10).await;
    assert_eq!(following.held(), None);
    let before = following.requests().len();
    following.consul.all(Some(Fault::status("500", 500, "")));
    following.consul.put("elsewhere", "x");
    following.pass(SECOND / 5 + STEP).await;
    assert!(following.requests().len() > before, "the first pause is a short one again");
    following.expect_published(&[10]);
    Ok(())
}

#[tokio::test]
async fn a_slow_answer_is_abandoned_at_its_time_limit() -> anyhow::Result<()> {
    for fault in [Fault::slow(), Fault::hang()] {
        // The first read does not wait for a change: its time limit is 10 s.
        let following = Following::start(Some(10)).await?;
        following.consul.next([Fault::status("500", 500, ""), fault.clone()]);
        following.put(20).await;
        following.until_requests(4).await;
        following.pass(SECOND * 9).await;
        assert_eq!(following.errors().get("timeout"), None, "{fault:?}");
        following.pass(SECOND * 2).await;
        assert_eq!(following.errors().get("timeout"), Some(&1), "{fault:?}");
        assert_eq!(following.held(), None, "the request is repeated");
        following.expect_published(&[10, 20]);

        // A waiting query has its wait, Consul's sixteenth, and a margin: 63.4 s.
        following.consul.next([fault.clone()]);
        following.put(30).await;
        following.frozen.pass(SECOND * 60, SECOND / 10).await;
        assert_eq!(following.errors().get("timeout"), Some(&1), "{fault:?}");
        following.frozen.pass(SECOND * 5, SECOND / 10).await;
        assert_eq!(following.errors().get("timeout"), Some(&2), "{fault:?}");
        following.expect_published(&[10, 20, 30]);
    }
    Ok(())
}
