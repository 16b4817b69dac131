//! What the fleet knows of this node: its key, its inventory entry, and its problems.
//!
//! Publishes what the sessions decided and read back. Never changes a weight, and never delays one: without the rights for
//! it, or without Consul, only the fleet's view of this node is lost.

pub mod holder;
