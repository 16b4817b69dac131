//! What a value of `counters/<node>` says to one observation.

use super::{
    BadReport,
    counters::{Counted, Counters, WhyLeftOut},
};
use crate::model::BackendName;

/// One key below `counters/`.
#[derive(Debug, Clone)]
pub struct CountersRead {
    /// Its `ModifyIndex`.
    pub index: u64,
    /// Its value.
    pub report: Result<Counters, BadReport>,
}

/// What a node says to an observation.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard<'r> {
    /// A HAProxy of it has the backend, or is down.
    Has(&'r Counted),
    /// No HAProxy of it has the backend.
    Lacks,
    /// It answered, and its answer is no data.
    NoData(NoData),
    /// It has not answered.
    Silent,
}

/// Why an answer is no data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoData {
    /// The value cannot be used.
    #[error(transparent)]
    Bad(#[from] BadReport),
    /// The node reports on other backends only.
    #[error("it leaves the backend out: {}", why(*.0))]
    LeftOut(WhyLeftOut),
}

const fn why(left_out: WhyLeftOut) -> &'static str {
    match left_out {
        WhyLeftOut::Size => "its report would be larger than 64 KiB",
        WhyLeftOut::Backends => "too many backends are observed",
        WhyLeftOut::Views => "too many observations of this backend differ",
        WhyLeftOut::Unknown => "for a reason that only a newer version knows",
    }
}

impl CountersRead {
    /// What the value says to the observation of `backend` whose key had the `ModifyIndex` `since` when it was written.
    ///
    /// A value that was written before the observation answers another one.
    pub fn heard(&self, backend: &BackendName, since: u64) -> Heard<'_> {
        if self.index <= since {
            return Heard::Silent;
        }
        let report = match &self.report {
            Ok(report) => report,
            Err(bad) => return Heard::NoData(NoData::Bad(bad.clone())),
        };
        if let Some(counted) = report.backends.iter().find(|counted| counted.backend == *backend) {
            return Heard::Has(counted);
        }
        if report.lacks.contains(backend) {
            return Heard::Lacks;
        }
        // Without a reason it answers another observation, and has not read this one.
        report.why_left_out(backend).map_or(Heard::Silent, Heard::NoData)
    }
}

impl Counters {
    /// Why the report does not have all of an observed backend; none if it says nothing of that.
    pub fn why_left_out(&self, backend: &BackendName) -> Option<NoData> {
        let named = self.left_out.iter().find(|left_out| left_out.0 == *backend).map(|left_out| left_out.1);
        named.or_else(|| (self.more > 0).then_some(WhyLeftOut::Size)).map(NoData::LeftOut)
    }
}

#[cfg(test)]
mod tests;
