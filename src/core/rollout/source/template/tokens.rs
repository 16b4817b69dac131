//! As much of the syntax of `PromQL` as is needed to know what is in quotes, in a matcher, in a range.

use std::ops::Range;

use super::InvalidTemplate;

/// A piece of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// White space, operators, commas.
    Plain(String),
    /// A name, a keyword or a number.
    Word(String),
    /// One of `(){}[]`.
    Bracket(char),
    /// `$window`.
    Window,
    /// A text in quotes.
    Quoted {
        quote: char,
        pieces: Vec<Piece>,
        /// Whether the text is a regular expression.
        regex: bool,
    },
}

/// A piece of a text in quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// A name without its `$`.
    Name(String),
}

const WINDOW: &str = "window";

/// Words that shift the window, or give no counts.
const SHIFTS: &str = "offset";
const NO_COUNTS: [&str; 3] = ["rate", "irate", "deriv"];

/// Splits the text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, InvalidTemplate> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let after = &rest[sign.len_utf8()..];
        match sign {
            '#' => return Err(InvalidTemplate::Comment),
            '@' => return Err(InvalidTemplate::Shifted("@")),
            '"' | '\'' | '`' => {
                let in_matcher = open.last() == Some(&'}');
                let operator = operator(&tokens).filter(|_| in_matcher);
                let (pieces, left) = quoted(sign, after)?;
                for piece in &pieces {
                    let Piece::Name(name) = piece else { continue };
                    match name.as_str() {
                        WINDOW => return Err(InvalidTemplate::Range),
                        "from" | "to" => return Err(InvalidTemplate::OneSide(name.clone())),
                        _ if operator.is_none() => return Err(InvalidTemplate::NotMatcher(name.clone())),
                        _ => {}
                    }
                }
                tokens.push(Token::Quoted { quote: sign, pieces, regex: operator == Some(Operator::Regex) });
                rest = left;
                continue;
            }
            '(' | '{' | '[' => {
                open.push(match sign {
                    '(' => ')',
                    '{' => '}',
                    _ => ']',
                });
                tokens.push(Token::Bracket(sign));
            }
            ')' | '}' | ']' => {
                if open.pop() != Some(sign) {
                    return Err(InvalidTemplate::Unbalanced(sign));
                }
                tokens.push(Token::Bracket(sign));
            }
            '$' => {
                let (name, left) = name(after);
                match name {
                    "" => return Err(InvalidTemplate::Dollar),
                    WINDOW => tokens.push(Token::Window),
                    other => return Err(InvalidTemplate::NotQuoted(other.to_owned())),
                }
                rest = left;
                continue;
            }
            _ if is_word(sign) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, left) = rest.split_at(end);
                check_word(word)?;
                tokens.push(Token::Word(word.to_owned()));
                rest = left;
                continue;
            }
            _ => match tokens.last_mut() {
                Some(Token::Plain(text)) => text.push(sign),
                _ => tokens.push(Token::Plain(sign.to_string())),
            },
        }
        rest = after;
    }
    open.pop().map_or(Ok(tokens), |missing| {
        Err(InvalidTemplate::Unbalanced(match missing {
            ')' => '(',
            '}' => '{',
            _ => '[',
        }))
    })
}

fn is_word(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || matches!(sign, '_' | ':' | '.')
}

fn check_word(word: &str) -> Result<(), InvalidTemplate> {
    let lower = word.to_ascii_lowercase();
    if lower == SHIFTS {
        return Err(InvalidTemplate::Shifted(SHIFTS));
    }
    NO_COUNTS.into_iter().find(|other| *other == lower).map_or(Ok(()), |word| Err(InvalidTemplate::NoCounts(word)))
}

/// How a matcher compares.
#[derive(PartialEq, Eq)]
enum Operator {
    Equal,
    Regex,
}

/// The operator of a matcher in front of its text in quotes.
fn operator(tokens: &[Token]) -> Option<Operator> {
    let Some(Token::Plain(text)) = tokens.last() else { return None };
    let text = text.trim_end();
    if text.ends_with("=~") || text.ends_with("!~") {
        Some(Operator::Regex)
    } else if text.ends_with('=') {
        Some(Operator::Equal)
    } else {
        None
    }
}

/// The name at the start, which may be empty, and the text after it.
fn name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.split_at(end)
}

/// The text up to the closing quote, and what is after that.
fn quoted(quote: char, text: &str) -> Result<(Vec<Piece>, &str), InvalidTemplate> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    loop {
        let Some(sign) = rest.chars().next() else { return Err(InvalidTemplate::Unclosed(quote)) };
        rest = &rest[sign.len_utf8()..];
        match sign {
            _ if sign == quote => break,
            '\\' if quote != '`' => {
                literal.push(sign);
                let escaped = rest.chars().next().ok_or(InvalidTemplate::Unclosed(quote))?;
                literal.push(escaped);
                rest = &rest[escaped.len_utf8()..];
            }
            '$' if rest.starts_with('{') => return Err(InvalidTemplate::Dollar),
            '$' => {
                let (name, left) = name(rest);
                // At the end of a regular expression a dollar sign is no name.
                if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Name(name.to_owned()));
                    rest = left;
                } else {
                    literal.push(sign);
                }
            }
            _ => literal.push(sign),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok((pieces, rest))
}

/// The tokens of the selector in front of the first range. Each range is `[$window]` right after a selector.
pub(super) fn first_selector(tokens: &[Token]) -> Result<Range<usize>, InvalidTemplate> {
    let mut first = None;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Bracket('[') => {
                if tokens.get(at + 1..at + 3) != Some(&[Token::Window, Token::Bracket(']')]) {
                    return Err(InvalidTemplate::Range);
                }
                let selector = selector(tokens, at).ok_or(InvalidTemplate::Range)?;
                first = first.or(Some(selector));
            }
            Token::Window if at.checked_sub(1).and_then(|before| tokens.get(before)) != Some(&Token::Bracket('[')) => {
                return Err(InvalidTemplate::Range);
            }
            _ => {}
        }
    }
    first.ok_or(InvalidTemplate::NoWindow)
}

/// The tokens of the selector that ends before `end`: a name, matchers in braces, or both.
fn selector(tokens: &[Token], end: usize) -> Option<Range<usize>> {
    let last = end.checked_sub(1)?;
    match tokens.get(last)? {
        Token::Word(_) => Some(last..end),
        Token::Bracket('}') => {
            // Braces cannot contain braces.
            let brace = tokens.get(..last)?.iter().rposition(|token| *token == Token::Bracket('{'))?;
            let named = brace.checked_sub(1).filter(|before| matches!(tokens.get(*before), Some(Token::Word(_))));
            Some(named.unwrap_or(brace)..end)
        }
        _ => None,
    }
}
