//! A page that many clients can request and that is built at most a few times per second.
//!
//! Each answer is built after its request. Builds take at most 1/20 of the time, for any number of clients. A client
//! waits at most about 1 s for a build.

use std::time::Duration;

use axum::body::Bytes;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// Minimum time between two builds.
const MIN_DELAY: Duration = Duration::from_millis(50);
/// A build may start after this multiple of the duration of the last build.
const COST_FACTOR: u32 = 20;

/// Maximum delay of a build after the last one.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// One page with its last build.
#[derive(Debug, Default)]
pub struct Page(Mutex<Option<Built>>);

#[derive(Debug)]
struct Built {
    started: Instant,
    ended: Instant,
    bytes: Bytes,
}

impl Page {
    /// Returns the page, built after this call started, by `build` or for another request at the same time. `prepare`
    /// runs before the build and may take long.
    pub async fn get<E>(
        &self,
        prepare: impl Future<Output = ()>,
        build: impl FnOnce() -> Result<String, E>,
    ) -> Result<Bytes, E> {
        let requested = Instant::now();
        let mut last = self.0.lock().await;
        if let Some(built) = &*last {
            if built.started >= requested {
                return Ok(built.bytes.clone());
            }
            let took = built.ended - built.started;
            sleep_until(built.ended + (took * COST_FACTOR).clamp(MIN_DELAY, MAX_DELAY)).await;
        }
        prepare.await;
        let started = Instant::now();
        let bytes = Bytes::from(build()?);
        *last = Some(Built { started, ended: Instant::now(), bytes: bytes.clone() });
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_requests_share_few_builds_and_each_answer_is_newer_than_its_request() {
        let (page, builds) = (Arc::new(Page::default()), Arc::new(AtomicU32::new(0)));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..500 {
            let (page, builds) = (Arc::clone(&page), Arc::clone(&builds));
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(number)).await;
                let requested = Instant::now();
                let build = || {
                    builds.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Infallible>((Instant::now() - start).as_millis().to_string())
                };
                let Ok(bytes) = page.get(async {}, build).await;
                let at: u64 = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
                assert!(start + Duration::from_millis(at) >= requested);
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let builds = builds.load(Ordering::Relaxed);
        assert!((5..=12).contains(&builds), "{builds} builds in 500 ms");
    }
}
