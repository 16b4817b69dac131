//! Servers that do what a real Consul or HAProxy cannot be made to do, and the time they live in.
//!
//! Both are honest unless a test scripts them: what is not scripted is answered as the real program would.

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

/// Time that passes only when a test says so, while sockets work as always.
///
/// Tokio's paused clock leaps ahead whenever all tasks wait, also when they wait for a socket. It does not while
/// a blocking task runs, so one runs for as long as this lives.
#[derive(Debug)]
pub struct Frozen {
    _holds: mpsc::Sender<()>,
}

impl Frozen {
    /// Stops the clock.
    pub fn clock() -> Self {
        pause();
        let (holds, held) = mpsc::channel::<()>();
        drop(spawn_blocking(move || held.recv()));
        Self { _holds: holds }
    }

    /// Lets this much time pass, a step at a time. After each step everything that can happen has happened.
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

    /// Lets everything happen that needs no time. Each round polls all sockets and all tasks that are ready; a
    /// request with its answer takes about ten.
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
