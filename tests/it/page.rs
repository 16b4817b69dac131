//! The page, with a real Consul, over plain HTTP.

mod reading;
mod safety;
mod story;
