//! The page in a real browser, with a real Consul. `make page-test` gets the browser and runs them.

#[path = "../harness/mod.rs"]
pub mod harness;
#[path = "../it/rollouts/stage.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod stage;
#[path = "../it/rollouts/stored.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod stored;
#[path = "../it/page/story.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod story;

mod access;
mod acts;
mod browser;
mod figures;
mod live;
mod pictures;

/// What the story and the stage need of the other tests.
mod common {
    /// The key of a backend.
    pub(crate) fn key(backend: &str) -> String {
        format!("weightd/weights/{backend}")
    }
}
