//! Answers of `/api/v1/query`, and the counts that they make.
//!
//! Prometheus and the servers that imitate it differ: one answers NaN where another answers nothing, one answers late
//! samples as if they were new. So everything that is not plainly one number of the time that was asked for is no data.

use serde::Deserialize;
use serde_json::Value;

use super::{NoData, Side};
use crate::judge::{Cell, Counts};

/// The longest text of a source that a reason repeats, in characters.
const MAX_TEXT: usize = 200;
/// How far the time of an answer may be from the one asked for, in seconds.
const TIME_SLACK: f64 = 1.0;
/// Counts above this are not exact.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;
/// How many seconds the newest sample may be older than two scrapes.
const STALE_SLACK: u64 = 10;
/// Up to so many requests the two counts of a window may differ by rounding at its ends.
const FEW: u64 = 10;

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(rename = "isPartial", default)]
    is_partial: bool,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    value: Option<(f64, String)>,
}

/// The one number of an answer.
///
/// `status` is that of HTTP, `asked` the time of the query in unix seconds.
///
/// # Errors
/// [`NoData`] for every other shape.
pub fn number(status: u16, body: &[u8], asked: u64) -> Result<f64, NoData> {
    match status {
        300..=399 => return Err(NoData::Redirect(status)),
        401 | 403 => return Err(NoData::Denied(status)),
        _ => {}
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return Err(NoData::Text(status, start(body))) };
    if answer.status != "success" || !(200..=299).contains(&status) {
        let text = start(answer.error.as_bytes());
        return Err(match answer.error_type.as_str() {
            "timeout" | "canceled" => NoData::Slow,
            "bad_data" | "execution" | "422" => NoData::Query(status, text),
            _ => NoData::Failed(status, text),
        });
    }
    if answer.is_partial {
        return Err(NoData::Partial);
    }
    if let Some(warning) = answer.warnings.first() {
        return Err(NoData::Warning(start(warning.as_bytes())));
    }
    let Some(Data { kind, result }) = answer.data else { return Err(NoData::Text(status, start(body))) };
    let text = |_| NoData::Text(status, start(body));
    let (time, value) = match kind.as_str() {
        "scalar" => serde_json::from_value::<(f64, String)>(result).map_err(text)?,
        "vector" => {
            let mut series: Vec<Series> = serde_json::from_value(result).map_err(text)?;
            match (series.len(), series.pop()) {
                (0, _) | (_, None) => return Err(NoData::Empty),
                (1, Some(Series { value: Some(value) })) => value,
                (1, Some(Series { value: None })) => return Err(NoData::Shape("histogram".to_owned())),
                (several, _) => return Err(NoData::Series(several)),
            }
        }
        other => return Err(NoData::Shape(start(other.as_bytes()))),
    };
    let away = (time - seconds(asked)).abs();
    if away.is_nan() || away > TIME_SLACK {
        return Err(NoData::OtherTime(away));
    }
    value
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| NoData::NotANumber(start(value.as_bytes())))
}

/// The counts of one side in one window. Prometheus extrapolates, so they are rounded, and one bad request too many is
/// an effect of that.
///
/// # Errors
/// [`NoData::Negative`], [`NoData::NotANumber`] and [`NoData::Contradiction`].
pub fn counts(total: f64, bad: f64) -> Result<Counts, NoData> {
    let (n, e) = (count(total)?, count(bad)?);
    if e > n.saturating_add(1) {
        return Err(NoData::Contradiction { total: n, bad: e });
    }
    Ok(Counts { n, e: e.min(n) })
}

fn count(number: f64) -> Result<u64, NoData> {
    // A difference of two extrapolated counts may be a little below zero.
    if number <= -1.0 {
        return Err(NoData::Negative(number));
    }
    if !number.is_finite() || number > MAX_COUNT {
        return Err(NoData::NotANumber(number.to_string()));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the range of exact counts"
    )]
    Ok(number.round().max(0.0) as u64)
}

/// Whether the newest sample belongs to the window that ends at `end` by the local clock, in unix seconds. The time that
/// an answer claims is no proof: a server may give old samples a new time.
///
/// # Errors
/// [`NoData::Stale`] if the sample is older than two scrapes and ten seconds.
pub fn fresh(newest: f64, end: u64, scrape_interval: u64) -> Result<(), NoData> {
    let age = (seconds(end) - newest).max(0.0);
    let most = scrape_interval.saturating_mul(2).saturating_add(STALE_SLACK);
    if age <= seconds(most) {
        return Ok(());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float saturates, and it is not negative"
    )]
    Err(NoData::Stale(age.round() as u64))
}

/// Whether the counts of a source and those of HAProxy are of the same traffic: at most 20 % apart on each side, or at most
/// ten requests. Both are of the same window. Errors are not compared: the two may count different ones.
///
/// # Errors
/// [`NoData::Differs`] with the first side on which they are not.
pub fn agrees(counted: &Cell, haproxy: &Cell) -> Result<(), NoData> {
    for (side, counted, haproxy) in
        [(Side::To, counted.to.n, haproxy.to.n), (Side::From, counted.from.n, haproxy.from.n)]
    {
        let apart = counted.abs_diff(haproxy);
        if apart > FEW && apart.saturating_mul(5) > haproxy {
            return Err(NoData::Differs { side, counted, haproxy });
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "unix seconds are far below 2^53")]
fn seconds(seconds: u64) -> f64 {
    seconds as f64
}

/// The start of a text of the source.
fn start(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests;
