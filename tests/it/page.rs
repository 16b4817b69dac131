//! The page, with a real Consul, over plain HTTP.

mod base_path;
mod encrypted;
mod limits;
mod names;
mod process;
mod reading;
mod requests;
mod rights;
mod safety;
mod servers;
mod story;
mod written;
