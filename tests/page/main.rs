//! The page in a real browser, with a real Consul. `make page-test` gets the browser and runs them.

#[path = "../harness/mod.rs"]
pub mod harness;
#[path = "../it/page/story.rs"]
mod story;

mod browser;
mod pictures;

/// What the story needs of the other tests.
mod common {
    /// The key of a backend.
    pub(crate) fn key(backend: &str) -> String {
        format!("weightd/weights/{backend}")
    }
}
