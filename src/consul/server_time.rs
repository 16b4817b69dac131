//! Consul's clock, from the `Date` header of its answers: the same for all nodes, whatever their own clocks show.

use std::sync::{Mutex, PoisonError};

use reqwest::header::{DATE, HeaderMap};
use tokio::time::Instant;
use weightd_core::model::Timestamp;

/// The time of the last answer, and when it arrived.
#[derive(Debug, Default)]
pub(super) struct ServerTime(Mutex<Option<(Timestamp, Instant)>>);

impl ServerTime {
    /// Takes the header of an answer. A header that cannot be read is ignored: times are only shown to people.
    pub(super) fn take(&self, headers: &HeaderMap) {
        let Some(time) = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(parse) else { return };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Instant::now()));
    }

    /// Consul's time now, to the second; none before its first answer.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let (time, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(Timestamp::from_seconds(time.seconds() + at.elapsed().as_secs()))
    }
}

/// An HTTP date, such as `Fri, 27 Nov 2026 01:29:34 GMT`.
fn parse(date: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    u64::try_from(zoned.as_second()).ok().map(Timestamp::from_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_is_read_and_anything_else_ignored() {
        let time = parse("Fri, 27 Nov 2026 01:29:34 GMT").unwrap();
        assert_eq!(time.seconds(), 1_795_742_974);
        assert_eq!(parse("yesterday"), None);
        let clock = ServerTime::default();
        assert_eq!(clock.now(), None);
        clock.take(&HeaderMap::from_iter([(DATE, "Fri, 27 Nov 2026 01:29:34 GMT".parse().unwrap())]));
        assert!(clock.now().is_some_and(|now| now >= time && now.seconds() < time.seconds() + 60));
    }
}
