//! Named checks: the queries to a metrics system, and what their answers are worth.
//!
//! A query is the operator's. Values that teams choose enter it only inside quoted matchers. An answer is either counts or a
//! reason why there are none: no data is neither good nor bad.
//!
//! | module | owns |
//! |---|---|
//! | [`template`] | queries with the values of a plan |
//! | [`mod@window`] | when a window is asked for |
//! | [`answer`] | answers and the counts that they make |

pub mod answer;
mod no_data;
pub mod template;
pub mod window;

pub use no_data::NoData;
pub use template::{Given, InvalidTemplate, MissingValue, Side, Template};
pub use window::{Schedule, Window};
