//! The time of the week in the time zone of a plan.

use jiff::{Timestamp, tz::TimeZone};
use weightd_core::rollout::plan::{LocalTime, Window};

/// Whether the share may grow now. A time zone that this machine does not know keeps the window closed.
pub(super) fn is_open(window: &Window) -> bool {
    at(window, Timestamp::now())
}

fn at(window: &Window, now: Timestamp) -> bool {
    let Ok(zone) = TimeZone::get(&window.timezone) else { return false };
    let local = now.to_zoned(zone);
    let day = local.weekday().to_monday_zero_offset();
    let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
    let (Ok(day), Ok(minute)) = (u8::try_from(day), u16::try_from(minute)) else { return false };
    window.is_open(LocalTime { day, minute })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_in_its_own_time_zone() {
        let window = |timezone: &str| Window {
            allow: vec!["Mon-Thu 09:00-16:00".parse().unwrap()],
            timezone: timezone.to_owned(),
        };
        // A Monday: 08:30 in UTC, 09:30 in Paris.
        let monday: Timestamp = "2026-11-23T08:30:00Z".parse().unwrap();
        assert!(at(&window("Europe/Paris"), monday));
        assert!(!at(&window("UTC"), monday));
        assert!(!at(&window("Europe/Nowhere"), monday));
        // In summer Paris is two hours ahead.
        let summer: Timestamp = "2026-07-06T07:30:00Z".parse().unwrap();
        assert!(at(&window("Europe/Paris"), summer));
    }
}
