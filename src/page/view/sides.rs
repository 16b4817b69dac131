//! The two sides of an application, and the bar of their shares.
//!
//! Hue follows the name: blue and green are the names of sides and of colours. For other names `from` takes blue and `to`
//! takes green. Place follows the role: `from` stands left.

use std::{collections::BTreeMap, fmt::Write as _};

use weightd_core::{
    desired::{Pattern, Split, Weights},
    history::To,
    rollout::Spec,
};

use super::words::percent;
use crate::documents::view::View;

/// A side's colour and form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hue {
    /// Dark, a square, a plain fill, a dashed line.
    Blue,
    /// Light, a disc, hatched, a solid line.
    Green,
}

impl Hue {
    /// The class in the style sheet.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Blue => "b",
            Self::Green => "g",
        }
    }
}

/// One side.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// Its name for people.
    pub name: String,
    /// Its servers or patterns; empty where it was derived from the names of servers.
    pub patterns: Vec<Pattern>,
    /// Its colour.
    pub hue: Hue,
    /// Its share in the document, in percent; none if the document gives no shares.
    pub share: Option<f64>,
}

/// The sides of an application.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sides {
    /// The old side, or the one with most of the traffic.
    pub from: Option<Side>,
    /// The new side.
    pub to: Option<Side>,
    /// The share of servers on neither side, in percent.
    pub other: f64,
}

/// The bar of the shares, with its line of text above.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bar {
    /// Left to right: class, name, share in percent.
    pub parts: Vec<(&'static str, String, f64)>,
    /// The real share of `to` in percent.
    pub real: Option<f64>,
}

impl Sides {
    /// The sides of a document; those of the rollout where there is one.
    pub fn of(document: Option<&View>, spec: Option<&Spec>) -> Self {
        let shares = document.map(shares).unwrap_or_default();
        let Some(shares) = shares else {
            return spec.map_or_else(Self::default, |spec| Self::named(spec, None));
        };
        match spec {
            Some(spec) => Self::named(spec, Some(&shares)),
            None => Self::derived(&shares),
        }
    }

    fn named(spec: &Spec, shares: Option<&BTreeMap<String, f64>>) -> Self {
        let sum = |patterns: &[Pattern]| shares.map(|shares| sum(shares, patterns));
        let (from, to) = (sum(&spec.from), sum(&spec.to));
        let names = (name_of(&spec.from), name_of(&spec.to));
        let hues = hues(&names.0, &names.1);
        let side = |name, patterns: &[Pattern], hue, share| Side { name, patterns: patterns.to_vec(), hue, share };
        Self {
            other: from.zip(to).map_or(0.0, |(from, to)| rest(from + to)),
            from: Some(side(names.0, &spec.from, hues.0, from)),
            to: Some(side(names.1, &spec.to, hues.1, to)),
        }
    }

    /// Groups the servers by name: `blue-1` and `blue-2` are `blue`.
    fn derived(shares: &BTreeMap<String, f64>) -> Self {
        let mut groups: BTreeMap<&str, (f64, Vec<&str>)> = BTreeMap::new();
        for (name, share) in shares {
            let group = groups.entry(stem(name)).or_default();
            group.0 += share;
            group.1.push(name);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        // Stable: groups with the same share stay in the order of their names, so blue comes before green.
        groups.sort_by(|(_, (a, _)), (_, (b, _))| b.total_cmp(a));
        let mut groups = groups.into_iter();
        let (from, to) = (groups.next(), groups.next());
        let name = |side: &Option<(&str, (f64, Vec<&str>))>| side.as_ref().map(|(name, _)| (*name).to_owned());
        let names = (name(&from), name(&to));
        let hues = hues(names.0.as_deref().unwrap_or_default(), names.1.as_deref().unwrap_or_default());
        let side = |group: Option<(&str, (f64, Vec<&str>))>, hue| {
            group.map(|(name, (share, members))| Side {
                name: name.to_owned(),
                patterns: members.into_iter().filter_map(|member| Pattern::new(member).ok()).collect(),
                hue,
                share: Some(share),
            })
        };
        let (mut from, mut to) = (side(from, hues.0), side(to, hues.1));
        // Without a rollout nobody said which side is new: blue stays left, so that the bar does not turn round at 50 %.
        if from.as_ref().is_some_and(|side| side.hue == Hue::Green) && to.is_some() {
            std::mem::swap(&mut from, &mut to);
        }
        let known = |side: &Option<Side>| side.as_ref().and_then(|side| side.share).unwrap_or_default();
        let other = rest(known(&from) + known(&to));
        Self { from, to, other }
    }

    /// The same sides with the shares of another document of the application: names and colours stay.
    #[must_use]
    pub fn at(&self, document: &View) -> Self {
        let shares = shares(document);
        let with = |side: &Option<Side>| {
            let side = side.as_ref()?;
            Some(Side { share: shares.as_ref().map(|shares| sum(shares, &side.patterns)), ..side.clone() })
        };
        let (from, to) = (with(&self.from), with(&self.to));
        let known = |side: &Option<Side>| side.as_ref().and_then(|side| side.share).unwrap_or_default();
        let other = if shares.is_some() { rest(known(&from) + known(&to)) } else { 0.0 };
        Self { from, to, other }
    }

    /// The bar.
    pub fn bar(&self, real: Option<f64>) -> Bar {
        let part = |side: &Side| Some((side.hue.class(), side.name.clone(), side.share?));
        let mut parts: Vec<_> = self.from.iter().chain(&self.to).filter_map(part).collect();
        if self.other > 0.05 {
            parts.push(("o", "other".to_owned(), self.other));
        }
        Bar { parts, real }
    }

    /// The share of `to`, in percent.
    pub fn to_share(&self) -> Option<f64> {
        self.to.as_ref().and_then(|side| side.share)
    }

    /// `to`'s name, or a word for it.
    pub fn to_name(&self) -> &str {
        self.to.as_ref().map_or("the new side", |side| &side.name)
    }

    /// `from`'s name, or a word for it.
    pub fn from_name(&self) -> &str {
        self.from.as_ref().map_or("the old side", |side| &side.name)
    }
}

impl Bar {
    /// The bar as SVG. Only numbers and fixed words go into it.
    pub fn svg(&self, class: &str) -> String {
        // A share that is not 0 stays visible.
        let widths: Vec<(&str, f64)> = self.parts.iter().map(|(class, _, share)| (*class, width(*share))).collect();
        draw(&widths, class)
    }

    /// The real share of `to`, with one decimal; empty where it is not known.
    pub fn real_text(&self) -> String {
        self.real.map_or_else(String::new, |real| format!("{real:.1}\u{a0}%"))
    }

    /// The thin bar of the real share; empty where it is not known.
    pub fn real_svg(&self) -> String {
        let (Some(real), [(from, ..), (to, ..), ..]) = (self.real, self.parts.as_slice()) else {
            return String::new();
        };
        draw(&[(from, width(100.0 - real)), (to, width(real))], "split real")
    }

    /// The parts that the line above names: those with a share, or all if it fits.
    pub fn named(&self) -> Vec<(&'static str, String, String)> {
        let shown = self.parts.iter().filter(|(_, _, share)| *share > 0.0);
        shown.map(|(class, name, share)| (*class, name.clone(), percent(*share))).collect()
    }
}

fn width(share: f64) -> f64 {
    if share > 0.0 && share < 2.0 { 2.0 } else { share.clamp(0.0, 100.0) }
}

fn draw(parts: &[(&str, f64)], class: &str) -> String {
    let mut svg = format!("<svg class=\"{class}\" aria-hidden=\"true\">");
    let total: f64 = parts.iter().map(|(_, width)| width).sum();
    let scale = if total > 0.0 { 100.0 / total } else { 0.0 };
    let mut x = 0.0;
    for (at, (class, width)) in parts.iter().enumerate().filter(|(_, (_, width))| *width > 0.0) {
        let width = width * scale;
        let place = format!("x=\"{x:.2}%\" width=\"{width:.2}%\" height=\"100%\"");
        // Writing to a string cannot fail.
        let _ = write!(svg, "<rect class=\"{class}\" {place}/>");
        if *class == "g" {
            let _ = write!(svg, "<rect fill=\"url(#hatch)\" {place}/>");
        }
        if at > 0 && x > 0.0 {
            let _ = write!(svg, "<rect class=\"cut\" x=\"{x:.2}%\" width=\"2\" height=\"100%\"/>");
        }
        x += width;
    }
    svg.push_str("</svg>");
    svg
}

/// What is left of 100 %; rounding is not another server.
fn rest(known: f64) -> f64 {
    let rest = 100.0 - known;
    if rest > 0.05 && known > 0.0 { rest } else { 0.0 }
}

/// The shares that a document gives, by server or pattern; none if it gives none.
pub fn shares(view: &View) -> Option<BTreeMap<String, f64>> {
    if let Some(split) = &view.split {
        return Some(of_split(split));
    }
    view.weights.as_ref().map(of_weights)
}

/// The shares that an entry of the history gives, in percent; none if it gives no shares.
pub fn shares_of(to: &To) -> Option<BTreeMap<String, f64>> {
    match to {
        To::Weights(weights) => Some(of_weights(weights)),
        To::Split(split) => Some(of_split(split)),
        _ => None,
    }
}

/// The share of all servers and patterns that `patterns` name.
pub fn sum(shares: &BTreeMap<String, f64>, patterns: &[Pattern]) -> f64 {
    let is = |name: &String| patterns.iter().any(|pattern| pattern.as_str() == name || pattern.matches(name));
    shares.iter().filter(|(name, _)| is(name)).map(|(_, share)| share).sum()
}

/// The shares of a split, in percent.
pub fn of_split(split: &Split) -> BTreeMap<String, f64> {
    split.shares().iter().map(|(pattern, share)| (pattern.as_str().to_owned(), share.percent())).collect()
}

/// The shares of weights, in percent; 0 for each server if none has a weight.
pub fn of_weights(weights: &Weights) -> BTreeMap<String, f64> {
    let all: f64 = weights.values().map(|weight| f64::from(weight.get())).sum();
    let share = |weight: f64| if all > 0.0 { 100.0 * weight / all } else { 0.0 };
    weights.iter().map(|(server, weight)| (server.as_str().to_owned(), share(f64::from(weight.get())))).collect()
}

/// The name of a side: its pattern without what varies.
fn name_of(patterns: &[Pattern]) -> String {
    let mut stems: Vec<&str> = patterns.iter().map(|pattern| stem(pattern.as_str())).collect();
    stems.dedup();
    match stems.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// A name without the number or the wildcard at its end: `blue-12` and `blue-*` are `blue`.
fn stem(name: &str) -> &str {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '*' | '?'));
    let stem = stem.trim_end_matches(['-', '_', '.', ':']);
    if stem.is_empty() { name } else { stem }
}

/// The colours of `from` and `to`.
fn hues(from: &str, to: &str) -> (Hue, Hue) {
    let is = |name: &str, word: &str| name.to_ascii_lowercase().contains(word);
    let from_is_green = is(from, "green") && !is(from, "blue");
    let to_is_blue = is(to, "blue") && !is(to, "green");
    if from_is_green || to_is_blue { (Hue::Green, Hue::Blue) } else { (Hue::Blue, Hue::Green) }
}

#[cfg(test)]
mod tests;
