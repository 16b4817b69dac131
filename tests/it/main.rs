//! Integration tests with a real Consul and a real HAProxy. They are one crate, so that only one program is linked.

#[path = "../harness/mod.rs"]
pub mod harness;

mod algorithms;
mod apply;
mod check;
mod coming;
mod commands;
mod common;
mod completions;
mod compose;
mod confined;
mod counters;
mod crash;
mod ctl;
mod cut;
mod daemon;
mod drift;
mod exclusive;
mod fleet_ctl;
mod fleet_node;
mod fleet_restore;
mod flood;
mod guards;
mod haproxy_faults;
mod histories;
mod hold;
mod import;
mod input;
mod laws;
mod layering;
mod leaves;
mod life;
mod overriding;
mod owners;
mod page;
mod pages;
mod pause;
mod plans;
mod policies;
mod readme;
mod reload;
mod rollback;
mod rollout_ctl;
mod rollouts;
mod runbook;
mod same_place;
mod security;
mod servers;
mod shares;
mod shift;
mod sources;
mod split;
mod state_file;
mod sticky;
mod sync;
mod tap;
mod tls;
mod truth;
mod unit;

mod writes;

pub mod fakes;

pub mod wire_consul;
mod wire_haproxy;
