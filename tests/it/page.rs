//! The page, with a real Consul, over plain HTTP.

mod limits;
mod process;
mod reading;
mod rights;
mod safety;
mod story;
