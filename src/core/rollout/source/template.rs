//! Templates of queries: a query in `PromQL` with `$backend`, `$label`, `$window`, and further labels that teams give.
//!
//! A value can only end up inside the quotes of a matcher, such as `cluster="$label"`, and consists of characters that mean
//! nothing there. In a regular expression a dot stands for itself. So a query always asks what the operator wrote, of the
//! side that the team named.

mod tokens;

use std::{collections::BTreeMap, fmt::Write as _};

use self::tokens::{Piece, Token};
use crate::model::{BackendName, Escaped};

/// The name that stands for the value of a side.
const LABEL: &str = "label";
/// The name that stands for the backend.
const BACKEND: &str = "backend";
/// The longest value of a label, in characters.
const MAX_VALUE: usize = 64;

/// A valid template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    tokens: Vec<Token>,
    /// The tokens of the series that the first range selects.
    selector: std::ops::Range<usize>,
}

/// A side of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The new side.
    To,
    /// The old side.
    From,
}

impl Side {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::To, Self::From];

    /// The word: the key of its value among the labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::From => "from",
        }
    }
}

/// The values for one query.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// `$backend`.
    pub backend: &'a BackendName,
    /// Which of the labels `to` and `from` is `$label`.
    pub side: Side,
    /// The labels of the plan.
    pub labels: &'a BTreeMap<String, String>,
    /// `$window`, in seconds.
    pub window: u64,
}

/// The text is not a valid template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// There is no query.
    #[error("the query is empty; write a query in PromQL that counts, such as {EXAMPLE}")]
    Empty,
    /// More than [`Template::MAX_LEN`] bytes.
    #[error("the query is longer than {max} bytes", max = Template::MAX_LEN)]
    TooLong,
    /// A control character, which a query does not need.
    #[error("the query contains a control character; remove it")]
    Control,
    /// A text in quotes does not end.
    #[error("a text in quotes does not end; close it with {0}")]
    Unclosed(char),
    /// A bracket without its partner.
    #[error("`{0}` has no partner; close each bracket")]
    Unbalanced(char),
    /// A comment.
    #[error("a query cannot contain a comment; write it above the key, where TOML takes `#` too")]
    Comment,
    /// A name stands where its value could change the query.
    #[error("`${0}` is not in quotes; names are allowed only inside quoted matchers, such as cluster=\"$label\"")]
    NotQuoted(String),
    /// A name stands in quotes that are not those of a matcher.
    #[error(
        "`${0}` is not inside a matcher; names are allowed only inside quoted matchers, such as cluster=\"$label\""
    )]
    NotMatcher(String),
    /// A dollar sign without a name.
    #[error("a `$` without a name; write $backend, $label, $window or the name of a label")]
    Dollar,
    /// A label of one side in the query of both.
    #[error("`${0}` names one side; write $label, which is the value of the side that is asked for")]
    OneSide(String),
    /// A range other than `[$window]`, or `$window` elsewhere.
    #[error("the range must be `[$window]`, right after a selector, so that the counts are those of one window")]
    Range,
    /// No range at all.
    #[error("the query has no `[$window]`; write for example {EXAMPLE}")]
    NoWindow,
    /// Both sides would get the same counts.
    #[error("the query has no `$label`, so both sides would get the same counts; write for example {EXAMPLE}")]
    NoLabel,
    /// Something that shifts the window.
    #[error("`{0}` shifts the window, so the counts would be those of another time; remove it")]
    Shifted(&'static str),
    /// A function that gives no counts.
    #[error("`{0}` gives no counts; write increase()")]
    NoCounts(&'static str),
}

const EXAMPLE: &str = r#"sum(increase(http_requests_total{cluster="$label"}[$window]))"#;

/// A value for the query is missing or invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingValue {
    /// The plan gives no such label.
    #[error("the plan gives no label `{}`, which the query needs", Escaped(.0))]
    Missing(String),
    /// The value is not one that may be in a query.
    #[error("the value of the label `{}` is not 1 to 64 of the characters A-Z a-z 0-9 _ . -", Escaped(.0))]
    Invalid(String),
}

impl Template {
    /// Maximum length of a template, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Parses a template.
    ///
    /// # Errors
    /// [`InvalidTemplate`] names the problem and the fix.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidTemplate::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(InvalidTemplate::TooLong);
        }
        if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r')) {
            return Err(InvalidTemplate::Control);
        }
        let tokens = tokens::tokens(text)?;
        let selector = tokens::first_selector(&tokens)?;
        let template = Self { text: text.to_owned(), tokens, selector };
        if !template.names().any(|name| name == LABEL) {
            return Err(InvalidTemplate::NoLabel);
        }
        Ok(template)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names whose values it needs: `backend`, `label`, or a label of the plan.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let pieces = self.tokens.iter().filter_map(|token| match token {
            Token::Quoted { pieces, .. } => Some(pieces),
            _ => None,
        });
        pieces.flatten().filter_map(|piece| match piece {
            Piece::Name(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The query for one side.
    ///
    /// # Errors
    /// [`MissingValue`] if the plan does not give a label, or gives a value that may not be in a query.
    pub fn query(&self, given: &Given<'_>) -> Result<String, MissingValue> {
        Self::written(&self.tokens, given)
    }

    /// The query for the time of the newest sample that the counts come from: unix seconds.
    ///
    /// # Errors
    /// As [`Template::query`].
    pub fn newest(&self, given: &Given<'_>) -> Result<String, MissingValue> {
        let selector = self.tokens.get(self.selector.clone()).unwrap_or_default();
        Ok(format!("max(timestamp({}))", Self::written(selector, given)?))
    }

    fn written(tokens: &[Token], given: &Given<'_>) -> Result<String, MissingValue> {
        let mut query = String::new();
        for token in tokens {
            match token {
                Token::Plain(text) | Token::Word(text) => query.push_str(text),
                Token::Bracket(sign) => query.push(*sign),
                Token::Window => {
                    let _infallible = write!(query, "{}s", given.window);
                }
                Token::Quoted { quote, pieces, regex } => {
                    query.push(*quote);
                    for piece in pieces {
                        match piece {
                            Piece::Text(text) => query.push_str(text),
                            Piece::Name(name) => {
                                let value = given.value(name)?;
                                // A class of one character needs no backslash, which would mean something else in each
                                // kind of quotes.
                                let value = if *regex { value.replace('.', "[.]") } else { value.to_owned() };
                                query.push_str(&value);
                            }
                        }
                    }
                    query.push(*quote);
                }
            }
        }
        Ok(query)
    }
}

impl Given<'_> {
    fn value(&self, name: &str) -> Result<&str, MissingValue> {
        let key = match name {
            // The type excludes quotes and backslashes.
            BACKEND => return Ok(self.backend.as_str()),
            LABEL => self.side.as_str(),
            other => other,
        };
        let value = self.labels.get(key).ok_or_else(|| MissingValue::Missing(key.to_owned()))?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=MAX_VALUE).contains(&value.len()) && value.bytes().all(fits) {
            Ok(value)
        } else {
            Err(MissingValue::Invalid(key.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
