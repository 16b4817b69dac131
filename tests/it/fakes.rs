//! Fake servers for behaviour that a real Consul or HAProxy does not show on demand, and a clock that the test
//! controls.
//!
//! By default both answer like the real program. A test scripts the exceptions.

use std::{sync::mpsc, time::Duration};

use tokio::{
    task::{spawn_blocking, yield_now},
    time::{advance, pause, resume},
};

pub mod consul;
pub mod fault;
pub mod haproxy;
pub mod model;

pub use consul::FakeConsul;
pub use haproxy::FakeHaproxy;
pub use model::Model;

/// A clock that advances only on request of the test, while sockets work normally.
///
/// Tokio's paused clock advances whenever all tasks wait, also for a socket. It does not advance while a blocking task
/// runs. Therefore a blocking task runs while this value exists.
#[derive(Debug)]
pub struct Frozen {
    _release: mpsc::Sender<()>,
}

impl Frozen {
    /// Stops the clock.
    pub fn clock() -> Self {
        pause();
        let (release, released) = mpsc::channel::<()>();
        drop(spawn_blocking(move || released.recv()));
        Self { _release: release }
    }

    /// Advances the clock step by step. After each step, all ready tasks run.
    pub async fn pass(&self, total: Duration, step: Duration) {
        self.settle().await;
        let mut left = total;
        while !left.is_zero() {
            let step = step.min(left);
            advance(step).await;
            left -= step;
            self.settle().await;
        }
    }

    /// Runs everything that needs no time. Each round polls all sockets and all ready tasks. A request with its answer
    /// takes about ten rounds.
    pub async fn settle(&self) {
        for _ in 0..64 {
            yield_now().await;
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        resume();
    }
}
