//! weightd

pub mod config;
pub mod consul;
pub mod desired;
pub mod haproxy;
pub mod lock;
pub mod model;
pub mod retry;
pub mod telemetry;
