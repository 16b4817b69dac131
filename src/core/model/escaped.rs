use std::fmt::{self, Display, Write as _};

/// Displays text from outside safely. Escapes control and bidirectional characters, and cuts text that is longer than
/// [`Escaped::MAX_CHARS`] characters with an ellipsis.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl Escaped<'_> {
    /// Maximum number of displayed characters.
    pub const MAX_CHARS: usize = 200;
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, c) in self.0.chars().enumerate() {
            if at == Self::MAX_CHARS {
                return f.write_char('…');
            }
            match c {
                // Quotes are safe, and common in error messages.
                '"' | '\'' => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidirectional_characters_are_escaped() {
        let shown = Escaped("a\u{202e}b\n\u{1b}[31m\0\"x\"").to_string();
        assert_eq!(shown, "a\\u{202e}b\\n\\u{1b}[31m\\0\"x\"");
    }

    #[test]
    fn long_text_is_cut() {
        let shown = Escaped(&"x".repeat(10_000)).to_string();
        assert_eq!(shown.chars().count(), Escaped::MAX_CHARS + 1);
    }
}
