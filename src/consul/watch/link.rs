//! The state of the connection to Consul, as the watch publishes it.

use std::{collections::BTreeMap, time::Duration};

use weightd_core::model::Moment;

/// A question that Consul answers at once is overdue after this time: then nothing that is written can arrive either.
pub const OVERDUE: Duration = Duration::from_secs(3);

/// The connection to Consul.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Since when and why there is no usable answer; none while it follows.
    pub failed: Option<Held>,
    /// When the last good answer came: the last proof that what is written arrives.
    pub last_read: Option<Moment>,
    /// When the question was sent that Consul answers at once and has not answered yet.
    pub asked: Option<Moment>,
    /// `X-Consul-Index` of the last good answer.
    pub index: u64,
    /// Whether it said that there is no key.
    pub empty: bool,
    /// Whether Consul said that ACLs hid keys.
    pub filtered: bool,
    /// Whether the keys are too large for one answer, so that each backend is read on its own.
    pub split: bool,
    /// Good answers so far.
    pub reads: u64,
    /// Requests sent so far.
    pub requests: u64,
    /// Failed requests so far, by reason.
    pub errors: BTreeMap<&'static str, u64>,
}

/// Why Consul's answer cannot be used at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// A short word.
    pub reason: &'static str,
    /// A sentence.
    pub detail: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Since when.
    pub since: Moment,
}

impl Link {
    /// Why there is no usable answer now: the last question failed, or Consul has not answered one for too long.
    pub fn held(&self, now: Moment) -> Option<Held> {
        let overdue = || {
            let asked = self.asked.filter(|asked| now.since(*asked) >= OVERDUE)?;
            Some(Held {
                reason: "overdue",
                detail: format!("Consul has not answered a question for {} s", now.since(asked).as_secs()),
                remedy: "see whether Consul's leader and its network respond: `consul operator raft list-peers`",
                since: asked,
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
    fn a_question_without_an_answer_holds_before_it_fails() {
        let link = Link { asked: Some(at(10)), last_read: Some(at(9)), ..Link::default() };
        assert_eq!(link.held(at(12)), None);
        let held = link.held(at(14)).unwrap();
        assert_eq!((held.reason, held.since), ("overdue", at(10)));
        assert!(held.detail.contains("4 s"), "{}", held.detail);
        assert_eq!(Link { asked: None, ..link }.held(at(99)), None);
    }
}
