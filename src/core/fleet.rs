//! The fleet: what each node says of itself, whether all of them have a document, and what is missing.
//!
//! Owns the values of `nodes/`, `inventory/`, `expect` and `freeze`, and the verdicts over them. What another program wrote
//! is data to judge: a value that cannot be read, or that contradicts itself, is shown as such and never counts as done.

mod bucket;
pub mod counters;
pub mod counting;
mod heard;
mod keys;
mod marks;
mod node;
mod observations;
mod observe;
mod overview;
mod report;
mod wait;

pub use bucket::{Publisher, Step};
pub use heard::{CountersRead, Heard, NoData};
pub use keys::{Keys, NodeName};
pub use marks::{BadValue, Duplicate, Expect, Freeze, Frozen, Inventory};
pub use node::{BadReport, Cut, How, InstanceReport, Mode, NodeReport, Out, Recent};
pub use observations::{Observations, Observed};
pub use observe::{BothSides, Observation, Per, Side, Sides, View, ViewId};
pub use overview::{BackendView, Difference, Health, NodeView, Overview, Problem, overview};
pub use report::{Answer, Identity, Report, Stand};
pub use wait::{DocumentNow, Fleet, Need, NodeRead, Overall, Standing, Verdict, Wait, Waiting, standing, verdict};
