//! Free loopback ports.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::Context as _;

/// Below Linux's range for outgoing connections: such a connection could take the port between this check and the
/// server's `bind`.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// A loopback address that no server uses. The listener on a port of this address owns the same port on 127.0.0.1
/// within this harness: several test programs may run at the same time.
const CLAIMS: &str = "127.87.0.1";

/// A port on 127.0.0.1 without a listener, claimed until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    /// Finds a free port.
    pub fn free() -> anyhow::Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Test programs that start at the same time search from different offsets.
        let start = (std::process::id() % 997) * 22;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let offset = (start + u32::from(step)) % u32::from(COUNT);
            let number = FIRST + u16::try_from(offset)?;
            let Ok(claim) = TcpListener::bind((CLAIMS, number)) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        None.context("no free port on 127.0.0.1")
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}
