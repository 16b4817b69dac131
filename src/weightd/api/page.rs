//! A page that many may ask for and that is built at most a few times a second.
//!
//! Every answer is at least as new as its question. Building takes at most a twentieth of the time whoever asks, and a person
//! waits a second for it at most.

use std::time::Duration;

use axum::body::Bytes;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// The shortest time between two builds.
const EVERY: Duration = Duration::from_millis(50);
/// A build may follow the last one after this multiple of the time that it took.
const COST: u32 = 20;

/// Nobody waits longer than this for a build.
const AT_MOST: Duration = Duration::from_secs(1);

/// The last build of one page.
#[derive(Debug, Default)]
pub struct Page(Mutex<Option<Built>>);

#[derive(Debug)]
struct Built {
    began: Instant,
    ended: Instant,
    bytes: Bytes,
}

impl Page {
    /// The page, built after this was called: by `build`, or by another question at the same time. `prepare` comes before,
    /// and may take its time.
    pub async fn get<E>(
        &self,
        prepare: impl Future<Output = ()>,
        build: impl FnOnce() -> Result<String, E>,
    ) -> Result<Bytes, E> {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some(built) = &*last {
            if built.began >= asked {
                return Ok(built.bytes.clone());
            }
            let took = built.ended - built.began;
            sleep_until(built.ended + (took * COST).clamp(EVERY, AT_MOST)).await;
        }
        prepare.await;
        let began = Instant::now();
        let bytes = Bytes::from(build()?);
        *last = Some(Built { began, ended: Instant::now(), bytes: bytes.clone() });
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
    async fn many_questions_cost_few_builds_and_each_answer_is_newer_than_its_question() {
        let (page, builds) = (Arc::new(Page::default()), Arc::new(AtomicU32::new(0)));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..500 {
            let (page, builds) = (Arc::clone(&page), Arc::clone(&builds));
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(number)).await;
                let asked = Instant::now();
                let build = || {
                    builds.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Infallible>((Instant::now() - start).as_millis().to_string())
                };
                let Ok(bytes) = page.get(async {}, build).await;
                let at: u64 = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
                assert!(start + Duration::from_millis(at) >= asked);
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let builds = builds.load(Ordering::Relaxed);
        assert!((5..=12).contains(&builds), "{builds} builds in 500 ms");
    }
}
