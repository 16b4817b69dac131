//! Rollouts from end to end: a real controller, nodes with a real HAProxy, applications that fail on command.

mod counted;
mod crowd;
mod judged;
mod kinds;
mod leaders;
mod paged;
mod people;
mod stage;
mod stored;
mod successions;
mod verbs;
