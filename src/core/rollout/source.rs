//! Named checks: the queries to a metrics system, and what their answers are worth.
//!
//! A query is the operator's. Values that teams choose enter it only inside quoted matchers. An answer is either counts or a
//! reason why there are none: no data is neither good nor bad.

pub mod template;

pub use template::{Given, InvalidTemplate, MissingValue, Side, Template};
