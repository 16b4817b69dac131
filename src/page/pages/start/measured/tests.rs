use super::*;
use crate::{
    consul::client::ConsulError,
    documents::{DocumentsError, gather::Sample},
};

fn app() -> BackendName {
    BackendName::new("app").unwrap()
}

fn denied() -> Gathered {
    let source = ConsulError::Denied("no".to_owned());
    let problem = DocumentsError::Read { below: "weightd/counters/".to_owned(), rule: String::new(), source };
    Gathered { problem: Some(problem), ..Gathered::default() }
}

fn counted() -> Gathered {
    Gathered { sample: Some(Sample::default()), ..Gathered::default() }
}

#[tokio::test]
async fn what_one_token_may_not_read_does_not_keep_another_from_measuring() {
    let measured = Measured::default();
    let first = measured.today(&app(), "ann", async { denied() }).await;
    assert!(first.sample.is_none() && measured.is_wanted(&app()));
    // It is shown, and nothing is decided with it.
    assert!(measured.of(&app(), "ann").is_some() && measured.fresh(&app()).is_none());
    // Its problem is the one of the token that measured.
    let is_own = |person: &str| measured.of(&app(), person).map(|(_, is_own)| is_own);
    assert_eq!((is_own("ann"), is_own("eve")), (Some(true), Some(false)));
    let second = measured.today(&app(), "eve", async { counted() }).await;
    assert!(second.sample.is_some() && !measured.is_wanted(&app()));
    let third = measured.today(&app(), "ann", async { denied() }).await;
    assert!(third.sample.is_some(), "it is measured once");
    assert!(measured.fresh(&app()).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_measurement_that_runs() {
    let measured = Arc::new(Measured::default());
    let first = Arc::clone(&measured);
    let slow = async {
        tokio::time::sleep(Duration::from_secs(12)).await;
        counted()
    };
    let running = tokio::spawn(async move { first.today(&app(), "ann", slow).await });
    tokio::task::yield_now().await;
    assert!(!measured.is_wanted(&app()) && measured.of(&app(), "ann").is_none());
    let started = Instant::now();
    let own = measured.today(&app(), "ann", async { denied() }).await;
    assert!(own.sample.is_some() && started.elapsed() >= Duration::from_secs(12));
    assert!(Arc::ptr_eq(&own, &running.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn the_traffic_is_todays_for_ten_minutes_and_the_servers_are_those_of_now_for_20_s() {
    let measured = Measured::default();
    measured.today(&app(), "ann", async { counted() }).await;
    tokio::time::advance(SERVERS).await;
    assert!(measured.fresh(&app()).is_none() && measured.of(&app(), "ann").is_some() && !measured.is_wanted(&app()));
    tokio::time::advance(MEASURED).await;
    assert!(measured.of(&app(), "ann").is_none() && measured.is_wanted(&app()));
}
