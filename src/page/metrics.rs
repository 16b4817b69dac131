//! What the page counts, on a loopback listener of its own.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// The counters.
#[derive(Debug, Default)]
pub struct PageMetrics {
    signed_in: AtomicU64,
    sign_ins_refused: AtomicU64,
    requests_refused: AtomicU64,
    streams: AtomicU64,
    writes: AtomicU64,
    writes_refused: AtomicU64,
}

impl PageMetrics {
    /// Somebody signed in.
    pub fn signed_in(&self) {
        self.signed_in.fetch_add(1, Ordering::Relaxed);
    }

    /// A sign-in was refused.
    pub fn sign_in_refused(&self) {
        self.sign_ins_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A write came from another page.
    pub fn refused(&self) {
        self.requests_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A write was done, or not.
    pub fn wrote(&self, done: bool) {
        let counter = if done { &self.writes } else { &self.writes_refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream opened (1) or closed (-1).
    pub fn stream(&self, opened: bool) {
        if opened {
            self.streams.fetch_add(1, Ordering::Relaxed)
        } else {
            self.streams.fetch_sub(1, Ordering::Relaxed)
        };
    }

    /// The metrics as text, with the number of people that are known, and the age of the data in seconds.
    pub fn text(&self, people: usize, away: u64) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rows = [
            ("rolloutd_page_sign_ins_total", "counter", "People who signed in", read(&self.signed_in)),
            (
                "rolloutd_page_sign_ins_refused_total",
                "counter",
                "Sign-ins that were refused",
                read(&self.sign_ins_refused),
            ),
            (
                "rolloutd_page_foreign_writes_total",
                "counter",
                "Writes that came from another page",
                read(&self.requests_refused),
            ),
            ("rolloutd_page_writes_total", "counter", "Writes that were done", read(&self.writes)),
            ("rolloutd_page_writes_refused_total", "counter", "Writes that were not done", read(&self.writes_refused)),
            ("rolloutd_page_streams", "gauge", "Open streams of events", read(&self.streams)),
            ("rolloutd_page_people", "gauge", "Tokens that were used in the last ten minutes", people as u64),
            (
                "rolloutd_page_consul_away_seconds",
                "gauge",
                "Seconds since Consul stopped to answer; 0 while it does",
                away,
            ),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in rows {
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        text
    }
}
