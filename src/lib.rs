//! weightd

pub mod accept;
pub mod api;
pub mod chain;
pub mod clock;
pub mod config;
pub mod consul;
pub mod ctl;
pub mod daemon;
pub mod desired;
pub mod haproxy;
pub mod lock;
pub mod metrics;
pub mod model;
pub mod observed;
pub mod plan;
pub mod reconcile;
pub mod retry;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod systemd;
pub mod telemetry;
