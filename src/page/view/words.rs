//! Numbers and times as people read them. A space that must not break is U+00A0.

use weightd_core::model::Timestamp;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: u64 = 86_400;

/// A share in percent, with as few decimals as it has: `10 %`, `2.5 %`.
pub fn percent(share: f64) -> String {
    format!("{}\u{a0}%", number(share))
}

/// A number with at most two decimals, without zeros at its end.
pub fn number(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A rate of errors in percent, with two significant digits; `no data` without a request.
pub fn rate(errors: u64, requests: u64) -> String {
    match requests {
        0 => "no data".to_owned(),
        _ => percent_of(ratio(errors, requests)),
    }
}

/// A part of 1 in percent, with two significant digits.
pub fn percent_of(part: f64) -> String {
    let percent = part * 100.0;
    let text = match percent {
        p if p >= 10.0 => format!("{p:.0}"),
        p if p >= 1.0 => format!("{p:.1}"),
        p if p >= 0.1 => format!("{p:.2}"),
        p if p >= 0.001 => format!("{p:.3}"),
        p if p > 0.0 => return "under\u{a0}0.001\u{a0}%".to_owned(),
        _ => "0".to_owned(),
    };
    format!("{}\u{a0}%", if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text })
}

/// A quotient of counts; 0 without a request.
pub fn ratio(errors: u64, requests: u64) -> f64 {
    if requests == 0 { 0.0 } else { float(errors) / float(requests) }
}

/// A count as a number. Counts above 2^53 lose their last digits.
#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 is not shown to the last digit")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// A count with commas: `33,812`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An estimated count: two significant digits are enough, `8,200`.
pub fn about(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^53")]
    let whole = number.clamp(0.0, 9.0e15).round() as u64;
    let scale = match whole {
        0..100 => 1,
        _ => 10_u64.pow(whole.ilog10() - 1),
    };
    count((whole + scale / 2) / scale * scale)
}

/// `1 node`, `2 nodes`.
pub fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{} {what}s", count(number as u64)),
    }
}

/// Seconds as a clock shows them: `12:48`, `1:02:03`.
pub fn clock(seconds: u64) -> String {
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// A length of time in words: `20 s`, `5 min`, `3 h 30 min`, `2 d`.
pub fn length(seconds: u64) -> String {
    let (number, unit, rest, rest_unit) = match seconds {
        0 => (0, "s", 0, "s"),
        s if s < 120 && !s.is_multiple_of(60) => (s, "s", 0, "s"),
        s if s < 3600 => (s / 60, "min", s % 60, "s"),
        s if s < 2 * DAY => (s / 3600, "h", s / 60 % 60, "min"),
        s => (s / DAY, "d", s / 3600 % 24, "h"),
    };
    match rest {
        0 => format!("{number}\u{a0}{unit}"),
        _ => format!("{number}\u{a0}{unit} {rest}\u{a0}{rest_unit}"),
    }
}

/// A time of today as `14:05:12`, another one with its day: `26 Nov 14:05`.
pub fn when(at: Timestamp, now: Timestamp) -> String {
    let text = at.to_string();
    let time = text.get(11..19).unwrap_or_default();
    if at.seconds() / DAY == now.seconds() / DAY {
        return time.to_owned();
    }
    let year = if text.get(..4) == now.to_string().get(..4) { "" } else { text.get(..4).unwrap_or_default() };
    let space = if year.is_empty() { "" } else { " " };
    format!("{}{space}{year} {}", day(at), time.get(..5).unwrap_or_default())
}

/// `26 Nov`.
pub fn day(at: Timestamp) -> String {
    let text = at.to_string();
    let field = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<usize>().ok());
    let month = field(5, 7).and_then(|month| MONTHS.get(month.checked_sub(1)?)).unwrap_or(&"");
    format!("{} {month}", field(8, 10).unwrap_or_default())
}

/// The time of day, `14:05:12`.
pub fn time(at: Timestamp) -> String {
    at.to_string().get(11..19).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
