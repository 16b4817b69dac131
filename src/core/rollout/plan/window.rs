use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A range of days and hours: `Mon-Thu 09:00-16:00`. The last minute is not in it. It ends on the day on which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First and last day, 0 for Monday. The last one can come before the first: `Sat-Mon`.
    days: (u8, u8),
    /// Minutes since midnight, from and to.
    minutes: (u16, u16),
}

/// Text that is no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a range is days and hours: \"Mon-Thu 09:00-16:00\" or \"Fri 09:00-12:00\"")]
pub struct InvalidRange;

/// A time of the week in some time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 for Monday to 6 for Sunday.
    pub day: u8,
    /// Minutes since midnight, 0 to 1439.
    pub minute: u16,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Range {
    /// Whether the time is in it.
    pub fn contains(self, at: LocalTime) -> bool {
        let (first, last) = self.days;
        let day = if first <= last { (first..=last).contains(&at.day) } else { at.day >= first || at.day <= last };
        day && (self.minutes.0..self.minutes.1).contains(&at.minute)
    }
}

impl FromStr for Range {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (days, hours) = text.trim().split_once(' ').ok_or(InvalidRange)?;
        let (first, last) = days.split_once('-').unwrap_or((days, days));
        let (from, to) = hours.trim().split_once('-').ok_or(InvalidRange)?;
        let days = (day(first)?, day(last)?);
        let minutes = (minute(from)?, minute(to)?);
        if minutes.0 >= minutes.1 {
            return Err(InvalidRange);
        }
        Ok(Self { days, minutes })
    }
}

fn day(text: &str) -> Result<u8, InvalidRange> {
    let at = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text)).ok_or(InvalidRange)?;
    u8::try_from(at).map_err(|_| InvalidRange)
}

/// `16:00` and up to `24:00`.
fn minute(text: &str) -> Result<u16, InvalidRange> {
    let (hours, minutes) = text.split_once(':').ok_or(InvalidRange)?;
    let number = |digits: &str| -> Option<u16> {
        let two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if two { digits.parse().ok() } else { None }
    };
    let (hours, minutes) = number(hours).zip(number(minutes)).ok_or(InvalidRange)?;
    let minute = hours * 60 + minutes;
    if minutes < 60 && minute <= 24 * 60 { Ok(minute) } else { Err(InvalidRange) }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |day: u8| DAYS.get(usize::from(day)).copied().unwrap_or_default();
        let (first, last) = self.days;
        let days = if first == last { name(first).to_owned() } else { format!("{}-{}", name(first), name(last)) };
        let hours = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        f.pad(&format!("{days} {}-{}", hours(self.minutes.0), hours(self.minutes.1)))
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
