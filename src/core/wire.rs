//! The types of the HTTP API. weightd and weightctl use the same definitions.

pub mod overriding;
pub mod pause;
pub mod status;
