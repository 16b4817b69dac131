//! What is printed.

use serde::Serialize;

/// Whether this program, and so the floor, is built as the tests are.
pub const UNOPTIMIZED: bool = cfg!(debug_assertions);

/// A figure to reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At most this many times the floor.
    TimesFloor(f64),
    /// At most this many times the peer.
    TimesPeer(f64),
    /// At most this.
    AtMost(f64),
}

/// One figure of a case.
#[derive(Debug, Clone, Default, Serialize)]
#[must_use]
pub struct Row {
    /// The case, with what was varied.
    pub case: String,
    /// What was measured.
    pub figure: String,
    /// In what.
    pub unit: &'static str,
    /// weightd's figure.
    pub weightd: Option<f64>,
    /// The floor's.
    pub floor: Option<f64>,
    /// The first by the second.
    pub ratio: Option<f64>,
    /// What was to be reached.
    pub goal: Option<Goal>,
    /// Whether it was, in this run.
    pub reached: Option<bool>,
    /// The peer's figure.
    pub peer: Option<f64>,
    /// weightd's figure by the peer's.
    pub ratio_to_peer: Option<f64>,
    /// Whether the peer would have been measured, had it been there.
    pub without_peer: bool,
}

impl Row {
    /// A row of `case`.
    pub fn new(case: &str, figure: &str, unit: &'static str) -> Self {
        Self { case: case.to_owned(), figure: figure.to_owned(), unit, ..Self::default() }
    }

    /// Adds weightd's figure.
    pub fn weightd(mut self, figure: impl Into<Option<f64>>) -> Self {
        self.weightd = figure.into();
        self
    }

    /// Adds the floor's figure.
    pub fn floor(mut self, figure: impl Into<Option<f64>>) -> Self {
        self.floor = figure.into();
        self
    }

    /// Adds the peer's figure.
    pub fn peer(mut self, figure: impl Into<Option<f64>>) -> Self {
        self.peer = figure.into();
        self
    }

    /// Says that the peer did not run.
    pub fn without_peer(mut self) -> Self {
        self.without_peer = true;
        self
    }

    /// Adds the goal.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    fn judged(mut self) -> Self {
        // A floor that is not built as a release would make weightd look fast.
        let by = |other: Option<f64>| {
            let both = self.weightd.zip(other).filter(|(_, other)| *other > 0.0 && !UNOPTIMIZED);
            both.map(|(own, other)| own / other)
        };
        (self.ratio, self.ratio_to_peer) = (by(self.floor), by(self.peer));
        self.reached = match self.goal {
            Some(Goal::TimesFloor(times)) => self.ratio.map(|ratio| ratio <= times),
            Some(Goal::TimesPeer(times)) => self.ratio_to_peer.map(|ratio| ratio <= times),
            Some(Goal::AtMost(most)) => self.weightd.map(|own| own <= most),
            None => None,
        };
        self
    }

    fn cells(&self) -> [String; 9] {
        let number = |value: Option<f64>| value.map(number).unwrap_or_default();
        let ratio = |value: Option<f64>| value.map(|ratio| format!("{ratio:.2}x")).unwrap_or_default();
        let goal = match self.goal {
            Some(Goal::TimesFloor(times)) => format!("<= {times}x"),
            Some(Goal::TimesPeer(times)) => format!("<= {times}x peer"),
            Some(Goal::AtMost(most)) => format!("<= {most}"),
            None => String::new(),
        };
        let verdict = match self.reached {
            Some(true) => " ok",
            Some(false) => " ABOVE",
            None => "",
        };
        [
            self.case.clone(),
            self.figure.clone(),
            self.unit.to_owned(),
            number(self.weightd),
            number(self.floor),
            ratio(self.ratio),
            goal + verdict,
            if self.without_peer { "did not run".to_owned() } else { number(self.peer) },
            ratio(self.ratio_to_peer),
        ]
    }
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value < 0.1 {
        format!("{value:.4}")
    } else {
        format!("{value:.2}")
    }
}

/// All that a run has found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Where and with what it ran.
    pub setting: Vec<(&'static str, String)>,
    /// The figures.
    pub rows: Vec<Row>,
    /// Results that are wrong: with any of these the run has failed.
    pub wrong: Vec<String>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds figures.
    pub fn rows(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows.into_iter().map(Row::judged));
    }

    /// Takes a result: it is wrong unless `right`.
    pub fn expect(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.wrong.push(what());
        }
    }

    /// As a table for people.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.setting.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.push(String::new());
        let head = ["case", "figure", "unit", "weightd", "floor", "ratio", "goal", "peer", "ratio"].map(str::to_owned);
        let cells: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width: Vec<usize> =
            (0..9).map(|at| cells.iter().map(|row| row[at].len()).max().unwrap_or_default()).collect();
        for row in &cells {
            let padded = row.iter().zip(&width).enumerate().map(|(at, (cell, width))| match at {
                0..=2 | 6 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            lines.push(padded.collect::<Vec<_>>().join("  ").trim_end().to_owned());
        }
        lines.extend(self.notes.iter().map(|note| format!("\n{note}")));
        lines.extend(self.wrong.iter().map(|wrong| format!("\nWRONG: {wrong}")));
        lines.join("\n")
    }
}
