//! The state of the connection to Consul, as the watch publishes it.

use std::{collections::BTreeMap, time::Duration};

use weightd_core::model::Moment;

/// A non-blocking request without an answer is overdue after this time. New documents cannot arrive then either.
pub const OVERDUE: Duration = Duration::from_secs(3);

/// The state of the connection to Consul.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// The last request failed: why, and since when. None while answers are usable.
    pub failed: Option<Held>,
    /// When the last good answer arrived. It proves that new documents arrive.
    pub last_read: Option<Moment>,
    /// When the pending non-blocking request was sent; none if none is pending.
    pub pending_since: Option<Moment>,
    /// When the last non-blocking request with a good answer was sent: that answer is not older than this.
    pub plain_read_sent: Option<Moment>,
    /// `X-Consul-Index` of the last good answer.
    pub index: u64,
    /// Whether the last good answer had no key.
    pub empty: bool,
    /// Whether ACLs hid keys in the last good answer.
    pub filtered: bool,
    /// Whether the keys are too large for one answer, so that each backend is read separately.
    pub split: bool,
    /// Number of good answers since the start.
    pub reads: u64,
    /// Number of requests since the start.
    pub requests: u64,
    /// Number of failed requests since the start, by reason.
    pub errors: BTreeMap<&'static str, u64>,
}

/// Consul gives no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The stable reason code.
    pub reason: &'static str,
    /// The error, for people.
    pub detail: String,
    /// The fix.
    pub remedy: &'static str,
    /// When the problem started.
    pub since: Moment,
}

impl Link {
    /// Returns the current problem: the last request failed, or the pending request is overdue.
    pub fn held(&self, now: Moment) -> Option<Held> {
        let overdue = || {
            let sent = self.pending_since.filter(|sent| now.since(*sent) >= OVERDUE)?;
            Some(Held {
                reason: "overdue",
                detail: format!("Consul has not answered a non-blocking request for {} s", now.since(sent).as_secs()),
                remedy: "check Consul's leader and the network: `consul operator raft list-peers`",
                since: sent,
            })
        };
        self.failed.clone().or_else(overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    #[test]
    fn an_overdue_request_is_reported_before_it_fails() {
        let link = Link { pending_since: Some(at(10)), last_read: Some(at(9)), ..Link::default() };
        assert_eq!(link.held(at(12)), None);
        let held = link.held(at(14)).unwrap();
        assert_eq!((held.reason, held.since), ("overdue", at(10)));
        assert!(held.detail.contains("4 s"), "{}", held.detail);
        assert_eq!(Link { pending_since: None, ..link }.held(at(99)), None);
    }
}
