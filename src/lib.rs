//! weightd

pub mod accept;
pub mod desired;
pub mod model;
pub mod observed;
pub mod plan;
