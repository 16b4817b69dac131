//! weightd

pub mod desired;
pub mod model;
