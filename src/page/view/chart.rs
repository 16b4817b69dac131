//! The errors of both sides over the last hour, as the page has seen them since it runs. Missing data is a gap, never a line.

use std::fmt::Write as _;

use weightd_core::{
    judge::ERRORS,
    model::Timestamp,
    rollout::{Shown, State},
};

use super::{
    facts::Facts,
    sides::{Hue, Side, Sides},
    words::{percent, percent_of, ratio, time},
};

/// What one report of the leader says: counts since the step began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// The `seq` of the state.
    pub seq: u64,
    /// The step.
    pub step: u32,
    /// The share of `to`, in percent.
    pub share: f64,
    /// Requests and errors of `to`.
    pub to: (u64, u64),
    /// Requests and errors of `from`.
    pub from: (u64, u64),
}

/// The most samples of one application.
pub const MOST: usize = 180;
/// The time that the chart shows, in seconds.
const SPAN: u64 = 3600;
/// Samples further apart than this have no data between them, in seconds.
const GAP: u64 = 150;
/// Shorter intervals are joined: a rate of few requests says little, in seconds.
const LEAST: u64 = 20;

impl Sample {
    /// What a report says; none before its first block.
    pub fn of(state: &State, shown: &Shown) -> Option<Self> {
        let check = shown.checks.get(ERRORS)?;
        let (seq, step, share) = (state.seq, state.step, state.share.percent());
        (shown.seq == seq).then_some(Self { at: shown.at, seq, step, share, to: check.to, from: check.from })
    }

    /// Adds a sample to those that are known, if it is newer.
    pub fn push(self, samples: &mut Vec<Self>) {
        if samples.last().is_some_and(|last| last.at >= self.at) {
            return;
        }
        samples.push(self);
        let more = samples.len().saturating_sub(MOST);
        samples.drain(..more);
    }
}

/// One interval: its end, and the rates of `from` and `to`; none without a request.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    from_at: u64,
    to_at: u64,
    from: Option<f64>,
    to: Option<f64>,
}

/// The intervals of the samples, split where data are missing.
fn intervals(samples: &[Sample]) -> Vec<Interval> {
    let mut intervals = Vec::new();
    let mut last: Option<&Sample> = None;
    for sample in samples {
        let Some(before) = last else {
            last = Some(sample);
            continue;
        };
        let apart = sample.at.seconds_since(before.at);
        let same = sample.step == before.step && sample.to.0 >= before.to.0 && sample.from.0 >= before.from.0;
        if same && apart < LEAST {
            continue;
        }
        if same && apart <= GAP {
            let rate = |now: (u64, u64), then: (u64, u64)| {
                let requests = now.0.saturating_sub(then.0);
                (requests > 0).then(|| ratio(now.1.saturating_sub(then.1), requests))
            };
            intervals.push(Interval {
                from_at: before.at.seconds(),
                to_at: sample.at.seconds(),
                from: rate(sample.from, before.from),
                to: rate(sample.to, before.to),
            });
        }
        last = Some(sample);
    }
    intervals
}

/// The chart as HTML: numbers, fixed words, and escaped names of sides. Empty where there is nothing to draw.
pub fn chart(facts: &Facts, now: Timestamp) -> String {
    let sides = Sides::of(facts.document.as_ref(), facts.spec());
    let (Some(from), Some(to)) = (&sides.from, &sides.to) else { return String::new() };
    let first = now.seconds().saturating_sub(SPAN);
    let intervals: Vec<_> = intervals(&facts.samples).into_iter().filter(|interval| interval.to_at > first).collect();
    if intervals.is_empty() {
        return String::new();
    }
    let rates = || intervals.iter().flat_map(|interval| [interval.from, interval.to]).flatten();
    let top = nice(rates().fold(0.0, f64::max));
    let x = |at: u64| 600.0 * super::words::float(at.saturating_sub(first)) / super::words::float(SPAN);
    let y = |rate: f64| 100.0 - 100.0 * rate / top;
    let mut lines = String::new();
    for (side, of) in [(from, 0), (to, 1)] {
        let rate = |interval: &Interval| if of == 0 { interval.from } else { interval.to };
        let mut path = String::new();
        let mut end = 0;
        for interval in &intervals {
            let Some(rate) = rate(interval) else {
                end = 0;
                continue;
            };
            let start = if end == interval.from_at {
                String::new()
            } else {
                format!("M{:.1},{:.1} ", x(interval.from_at), y(rate))
            };
            // Writing to a string cannot fail.
            let _ = write!(path, "{start}L{:.1},{:.1} ", x(interval.to_at), y(rate));
            end = interval.to_at;
        }
        let class = if side.hue == Hue::Blue { "lb" } else { "lg" };
        let _ = write!(lines, "<path class=\"line {class}\" d=\"{}\"/>", path.trim_end());
    }
    let mut marks = String::new();
    for pair in facts.samples.windows(2).filter(|pair| pair[0].step != pair[1].step && pair[1].at.seconds() > first) {
        let at = x(pair[1].at.seconds()) / 6.0;
        let share = percent(pair[1].share);
        let _ = write!(
            marks,
            "<line class=\"mark\" x1=\"{at:.1}%\" x2=\"{at:.1}%\" y1=\"6\" y2=\"108\"/><text x=\"{at:.1}%\" dx=\"4\" y=\"14\">{share}</text>"
        );
    }
    let last = |of: fn(&Interval) -> Option<f64>| {
        intervals.last().and_then(of).map_or_else(|| "no requests".to_owned(), percent_of)
    };
    let (of_from, of_to) = (last(|interval| interval.from), last(|interval| interval.to));
    let key = |side: &Side, rate: &str| {
        let class = if side.hue == Hue::Blue { "lb" } else { "lg" };
        let name = escaped(&side.name);
        format!(
            "<span><svg aria-hidden=\"true\"><line class=\"line {class}\" y1=\"6\" y2=\"6\" x2=\"28\"/></svg>{name} {rate}</span>"
        )
    };
    let ticks: String = [0_u64, 1, 2, 3, 4]
        .map(|quarter| {
            let anchor = ["start", "middle", "middle", "middle", "end"]
                .get(usize::try_from(quarter).unwrap_or(0))
                .unwrap_or(&"middle");
            let at = Timestamp::from_seconds(first + quarter * SPAN / 4);
            let text = time(at);
            format!(
                "<text x=\"{}%\" y=\"124\" text-anchor=\"{anchor}\">{}</text>",
                quarter * 25,
                text.get(..5).unwrap_or_default()
            )
        })
        .concat();
    let label = format!(
        "Errors of the last hour. {} has {of_from} now, {} has {of_to}. The table of checks has the counts.",
        escaped(&from.name),
        escaped(&to.name)
    );
    format!(
        "<section class=\"card\"><h2>Errors in the last hour</h2><figure><figcaption class=\"key\">{}{}</figcaption><svg class=\"chart\" \
         role=\"img\" aria-label=\"{label}\"><line class=\"grid\" x2=\"100%\" y1=\"18\" y2=\"18\"/><text y=\"14\">{}</text><line class=\"grid\" \
         x2=\"100%\" y1=\"63\" y2=\"63\"/><text y=\"59\">{}</text><line class=\"grid\" x2=\"100%\" y1=\"108\" y2=\"108\"/>{marks}<svg y=\"18\" \
         width=\"100%\" height=\"90\" viewBox=\"0 0 600 100\" preserveAspectRatio=\"none\" overflow=\"visible\">{lines}</svg>{ticks}</svg></figure><p \
         class=\"s\">What this page has seen since it runs. A gap is a time without data.</p></section>",
        key(from, &of_from),
        key(to, &of_to),
        percent_of(top),
        percent_of(top / 2.0),
    )
}

/// The end of the scale: 1, 2 or 5 times a power of ten, at least 0.01 %.
fn nice(rate: f64) -> f64 {
    let mut scale = 0.0001;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if rate <= scale * factor {
                return scale * factor;
            }
        }
        scale *= 10.0;
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '"' | '\'' => {
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
