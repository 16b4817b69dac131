//! Errors of plans: the line, what is wrong, what to do.

use std::fmt;

use crate::model::{Escaped, nearest};

/// Where a problem is, in the terms of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The whole plan.
    Plan,
    /// A key above all sections, such as `mode`.
    Key(&'static str),
    /// A key of a step; steps count from 0.
    Step(usize, &'static str),
    /// A key of a check.
    Check(String, &'static str),
    /// A key of another section, such as `window`.
    Section(&'static str, &'static str),
}

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; none if it is not known.
    pub line: Option<usize>,
    /// Where, in the terms of the plan.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// A problem that is found in a value that was read.
    pub fn new(place: Place, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line: None, place, what: what.into(), remedy: remedy.into() }
    }

    /// A problem that the parser of TOML or JSON found: its message, and the byte at which it is. An unknown key gets a
    /// suggestion.
    pub fn of_parser(text: &str, offset: Option<usize>, message: &str) -> Self {
        let line = offset.map(|at| line_at(text, at));
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, "));
        let (what, remedy) = match unknown {
            Some((key, expected)) => {
                let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
                (format!("unknown key `{}`", Escaped(key)), suggestion(key, &known))
            }
            None => match message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, ")) {
                Some((value, expected)) => {
                    let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
                    (format!("unknown value `{}`", Escaped(value)), suggestion(value, &known))
                }
                None => {
                    (Escaped(message).to_string(), "`weightctl rollout lint --help` shows a complete plan".to_owned())
                }
            },
        };
        Self { line, place: Place::Plan, what, remedy }
    }

    /// The same problem with its line in the TOML text of the plan.
    #[must_use]
    pub fn in_text(mut self, text: &str) -> Self {
        self.line = self.line.or_else(|| locate(text, &self.place));
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan => Ok(()),
            Self::Key(key) => write!(f, "`{key}`: "),
            Self::Step(at, key) => write!(f, "step {}, `{key}`: ", at + 1),
            Self::Check(name, key) => write!(f, "[check.{}], `{key}`: ", Escaped(name)),
            Self::Section(section, key) => write!(f, "[{section}], `{key}`: "),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}{}; {}", self.place, self.what, self.remedy)
    }
}

impl std::error::Error for Problem {}

/// The nearest known word, or all of them.
pub(super) fn suggestion(wrong: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest(wrong, known.iter().copied()) {
        return format!("did you mean `{nearest}`?");
    }
    let all: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    format!("write one of {}", all.join(", "))
}

/// The line of the byte at `offset`, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The line of a place in the TOML text: that of its key, or of the head of its section if the key is not there.
fn locate(text: &str, place: &Place) -> Option<usize> {
    let (head, nth, key) = match place {
        Place::Plan => return None,
        Place::Key(key) => (None, 0, *key),
        Place::Step(at, key) => (Some("[[step]]".to_owned()), *at, *key),
        Place::Check(name, key) => (Some(format!("[check.{name}]")), 0, *key),
        Place::Section(section, key) => (Some(format!("[{section}]")), 0, *key),
    };
    let is_head = |line: &str| line.starts_with('[');
    let bare = |line: &str| line.split('#').next().unwrap_or_default().replace([' ', '\t', '"', '\''], "");
    let mut lines = text.lines().map(bare).enumerate().peekable();
    let mut found = None;
    if let Some(head) = head {
        let (at, _) = lines.by_ref().filter(|(_, line)| *line == head).nth(nth)?;
        found = Some(at + 1);
    }
    let body = lines.take_while(|(_, line)| !is_head(line));
    let of_key = |(at, line): (usize, String)| (line.split('=').next() == Some(key)).then_some(at + 1);
    body.into_iter().find_map(of_key).or(found)
}
