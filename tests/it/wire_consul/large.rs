//! Keys that are too large for one answer: the keys of one team must not block other teams.

use super::*;

const MIB: usize = 1024 * 1024;

fn flood() -> Fault {
    Fault::flood(16 * MIB + 1, true)
}

#[tokio::test]
async fn each_backend_is_read_separately_and_changes_still_arrive() -> anyhow::Result<()> {
    for length_is_known in [true, false] {
        let following = Following::start(Some(10)).await?;
        following.consul.next([Fault::flood(16 * MIB + 1, length_is_known)]);
        following.put(20).await;
        for _ in 0..100 {
            following.frozen.settle().await;
        }
        following.pass(SECOND / 10).await;
        following.expect_published(&[10, 20]);
        assert_eq!(following.held(), None);
        assert!(following.link.borrow().split);
        assert_eq!(following.errors(), BTreeMap::from([("too_large", 1)]));
        following.put(30).await;
        following.pass(SECOND / 10).await;
        following.expect_published(&[10, 20, 30]);
        following.consul.expect_no_extra_requests();
    }
    Ok(())
}

#[tokio::test]
async fn one_answer_is_used_again_when_the_keys_fit() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    following.consul.next([flood()]);
    following.put(20).await;
    following.pass(SECOND).await;
    assert!(following.link.borrow().split);
    following.until("it is read as one answer", || !following.link.borrow().split).await;
    following.put(30).await;
    following.pass(SECOND).await;
    following.expect_published(&[10, 20, 30]);
    let last = following.requests().last().map(|request| request.uri.clone()).unwrap_or_default();
    assert!(last.contains("recurse"), "{last}");
    Ok(())
}

#[tokio::test]
async fn if_even_the_names_are_too_large_weights_are_held_and_the_watch_recovers() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    following.consul.next([flood(), flood()]);
    following.put(20).await;
    following.until_held().await;
    assert_eq!(following.held(), Some("too_large"));
    following.pass(SECOND).await;
    assert_eq!(following.held(), None);
    following.put(30).await;
    following.pass(SECOND / 10).await;
    following.expect_published(&[10, 20, 30]);
    Ok(())
}

#[tokio::test]
async fn a_plain_read_that_is_too_large_does_not_hold_the_weights() -> anyhow::Result<()> {
    let following = Following::start(Some(10)).await?;
    following.consul.next([flood()]);
    following.frozen.pass(SECOND * 15, SECOND / 10).await;
    assert_eq!(following.held(), None);
    following.put(20).await;
    following.pass(SECOND / 10).await;
    following.expect_published(&[10, 20]);
    Ok(())
}
