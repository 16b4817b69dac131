//! Unusable answers: nothing of them is published, and the next read does not wait for an index.

use super::*;

#[tokio::test]
async fn an_unusable_answer_publishes_nothing_and_is_reported() -> anyhow::Result<()> {
    let target = FakeConsul::start().await?;
    let following = Following::start(Some(0)).await?;
    let mut expected = vec![0];
    let mut errors = BTreeMap::new();
    for (number, (fault, reason)) in faults(&target.address()).into_iter().enumerate() {
        let (name, green) = (fault.name(), u16::try_from(number)? + 1);
        following.consul.next([fault]);
        following.put(green).await;
        expected.push(green);
        for _ in 0..100 {
            following.frozen.settle().await;
        }
        assert_eq!(following.held(), Some(reason), "{name}");
        following.expect_published(&expected);
        // Longer than the pause, and long enough to refill the token bucket.
        following.pass(SECOND / 2).await;
        assert_eq!(following.held(), None, "{name}: the watch recovers");
        *errors.entry(reason).or_default() += 1;
        assert_eq!(following.errors(), errors, "{name}");
        let asked: Vec<u64> = following.requests().iter().rev().take(2).map(|r| r.index).collect();
        assert_eq!(asked[1], 0, "{name}: the read after an error does not wait");
        assert!(asked[0] > 0, "{name}");
        following.expect_published(&expected);
    }
    assert!(target.requests().is_empty(), "a redirect was followed");
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn an_unusable_answer_to_a_plain_read_publishes_nothing_and_does_not_affect_the_query() -> anyhow::Result<()> {
    let target = FakeConsul::start().await?;
    for (fault, reason) in faults(&target.address()) {
        let following = Following::start(Some(10)).await?;
        let name = fault.name();
        following.consul.next([fault]);
        following.frozen.pass(SECOND * 8, SECOND).await;
        following.until_held().await;
        assert_eq!(following.held(), Some(reason), "{name}");
        assert_eq!(following.consul.blocked(), 1, "{name}");
        following.put(20).await;
        following.expect_published(&[10, 20]);
        assert_eq!(following.held(), None, "{name}");
        following.consul.expect_no_extra_requests();
    }
    assert!(target.requests().is_empty(), "a redirect was followed");
    Ok(())
}

#[tokio::test]
async fn an_unusable_first_answer_is_reported_by_the_feed() -> anyhow::Result<()> {
    let consul = FakeConsul::start().await?;
    consul.put("weightd/weights/app", &document(10));
    consul.all(Some(Fault::closed()));
    let frozen = Frozen::clock();
    let client = Client::new(Settings { address: consul.address().parse()?, ..Settings::default() })?;
    let (watch, followed) = Watch::new(Arc::new(client), PREFIX.to_owned(), WAIT, Clock::start());
    let received = followed.feed;
    let task = tokio::spawn(watch.run());
    assert!(matches!(&*received.borrow(), Feed::Waiting));
    frozen.settle().await;
    assert!(matches!(&*received.borrow(), Feed::Unavailable));
    consul.all(None);
    frozen.pass(SECOND, STEP).await;
    assert!(matches!(&*received.borrow(), Feed::State { .. }));
    task.abort();
    Ok(())
}

#[tokio::test]
async fn a_connection_that_ends_between_two_queries_is_no_error() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    let mut expected = vec![10];
    for green in 20..40 {
        following.consul.next([Fault::last_on_connection()]);
        following.put(green).await;
        following.pass(SECOND).await;
        expected.push(green);
    }
    following.expect_published(&expected);
    assert_eq!(following.errors(), BTreeMap::new());
    following.consul.expect_no_extra_requests();
    Ok(())
}

#[tokio::test]
async fn deleted_keys_are_published_as_deleted_and_nothing_else_changes() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    following.consul.delete("weightd/weights/app");
    following.pass(SECOND).await;
    let published = following.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(published, [Some(10), None]);
    assert_eq!(following.held(), None, "an empty prefix is an answer");
    assert!(following.link.borrow().empty);
    Ok(())
}
