use std::{
    convert::Infallible,
    future::pending,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::time::{advance, sleep};

use super::*;

type Answer = Result<u64, Failed<&'static str>>;

fn kept() -> Arc<Kept<u64>> {
    Arc::default()
}

async fn get(kept: &Arc<Kept<u64>>, answer: Answer) -> Answer {
    kept.get(|_| false, || async { answer }).await
}

fn away() -> Answer {
    Err(Failed::Away("500".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_believed_for_half_a_minute() {
    let kept = kept();
    assert!(matches!(get(&kept, Ok(1)).await, Ok(1)));
    advance(Duration::from_millis(29_999)).await;
    assert!(matches!(get(&kept, Ok(2)).await, Ok(1)));
    advance(Duration::from_millis(1)).await;
    assert!(matches!(get(&kept, Ok(2)).await, Ok(2)));
    assert!(matches!(kept.get(|_| true, || async { Answer::Ok(3) }).await, Ok(3)), "it is old");
}

#[tokio::test(start_paused = true)]
async fn after_an_error_the_old_answer_stays_and_consul_is_left_alone_for_seconds() {
    let kept = kept();
    assert!(matches!(get(&kept, away()).await, Err(Failed::Away(_))), "nothing is known");
    advance(AGAIN_WITHOUT).await;
    assert!(matches!(get(&kept, Ok(1)).await, Ok(1)));
    advance(BELIEVED).await;
    assert!(matches!(get(&kept, away()).await, Ok(1)));
    advance(Duration::from_millis(4_999)).await;
    assert!(matches!(get(&kept, Ok(2)).await, Ok(1)), "it was asked again at once");
    advance(Duration::from_millis(1)).await;
    assert!(matches!(get(&kept, Ok(2)).await, Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_over_at_once() {
    let kept = kept();
    assert!(matches!(get(&kept, Ok(1)).await, Ok(1)));
    advance(BELIEVED).await;
    assert!(matches!(get(&kept, Err(Failed::Over("gone"))).await, Err(Failed::Over("gone"))));
    assert!(kept.last().is_none());
    assert!(matches!(get(&kept, Err(Failed::Over("still"))).await, Err(Failed::Over("still"))), "a believed end");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_consul_that_hangs_where_an_answer_is_known() {
    let kept = kept();
    assert!(matches!(get(&kept, Ok(1)).await, Ok(1)));
    advance(BELIEVED).await;
    let began = Instant::now();
    let ask = || kept.get(|_| false, pending::<Answer>);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    assert!(matches!((one, two, three), (Ok(1), Ok(1), Ok(1))));
    assert_eq!(began.elapsed(), PATIENCE, "they wait in turn");
    assert!(matches!(ask().await, Ok(1)));
    assert_eq!(began.elapsed(), PATIENCE, "it waits again at once");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_counts_when_it_comes() {
    let slow = |answer: Answer| {
        move || async move {
            sleep(Duration::from_secs(4)).await;
            answer
        }
    };
    let kept = kept();
    assert!(matches!(get(&kept, Ok(1)).await, Ok(1)));
    advance(BELIEVED).await;
    assert!(matches!(kept.get(|_| false, slow(Ok(2))).await, Ok(1)));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(kept.last(), Some(2));
    advance(BELIEVED).await;
    assert!(matches!(kept.get(|_| false, slow(Err(Failed::Over("gone")))).await, Ok(2)));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(kept.last(), None, "the token is gone");
}

#[tokio::test(start_paused = true)]
async fn one_request_asks_for_all() {
    let (kept, asked) = (kept(), Arc::new(AtomicU64::new(0)));
    let ask = |answer: Result<u64, &'static str>| {
        let asked = Arc::clone(&asked);
        kept.get(
            |_| false,
            move || async move {
                sleep(Duration::from_secs(1)).await;
                asked.fetch_add(1, Ordering::Relaxed);
                answer.map_err(|why| Failed::<Infallible>::Away(why.to_owned()))
            },
        )
    };
    let (one, two, three) = tokio::join!(ask(Err("500")), ask(Err("500")), ask(Err("500")));
    assert!(one.is_err() && two.is_err() && three.is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    advance(AGAIN_WITHOUT).await;
    let (one, two, three) = tokio::join!(ask(Ok(1)), ask(Ok(2)), ask(Ok(3)));
    assert_eq!((one.ok(), two.ok(), three.ok()), (Some(1), Some(1), Some(1)));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_it_was_forgotten_is_not_kept() {
    let kept = kept();
    let slow = || async {
        sleep(Duration::from_secs(1)).await;
        Answer::Ok(1)
    };
    let forget = async {
        sleep(Duration::from_millis(500)).await;
        kept.forget();
    };
    let (answer, ()) = tokio::join!(kept.get(|_| false, slow), forget);
    assert!(matches!(answer, Ok(1)));
    assert!(matches!(get(&kept, Ok(2)).await, Ok(2)));
}
