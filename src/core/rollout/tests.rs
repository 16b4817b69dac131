//! The decision of a tick: the event table cell by cell, the order within a tick, and properties.

mod bench;
mod blocks;
mod evidence;
mod intake;
mod known;
mod order;
mod properties;
mod requests;
mod sim;
mod table;
mod wire;
