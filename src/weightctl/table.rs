use anstyle::{AnsiColor, Style};

/// The importance of a text, shown as a colour. A colour never carries information by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tone {
    /// Normal.
    #[default]
    Plain,
    /// Less important.
    Faint,
    /// Emphasized.
    Strong,
    /// Correct.
    Good,
    /// Pending, or needs attention.
    Warn,
    /// Failed.
    Bad,
}

impl Tone {
    /// The style in a terminal.
    pub(super) const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Faint => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }

    /// `text` in this tone.
    pub(super) fn paint(self, text: &str) -> String {
        if self == Self::Plain || text.is_empty() { text.to_owned() } else { format!("{0}{text}{0:#}", self.style()) }
    }
}

/// One cell of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    /// Appends `text` after a comma. Uses `tone` only if the cell is empty.
    pub(super) fn append(&mut self, text: &str, tone: Tone) {
        if self.text.is_empty() {
            self.tone = tone;
        } else {
            self.text.push_str(", ");
        }
        self.text.push_str(text);
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// A table: a header line, then one line per row. Two blanks separate the columns.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    align: [Align; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these columns.
    pub(super) fn new(columns: [(&str, Align); N]) -> Self {
        Self {
            align: columns.map(|(_, align)| align),
            rows: vec![columns.map(|(name, _)| Cell::new(name, Tone::Strong))],
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The text. Each line starts with `indent`, which is blanks.
    pub(super) fn render(&self, indent: &str) -> String {
        self.render_within(indent, None)
    }

    /// As [`Self::render`], with lines of at most `columns` characters, if the cells are not to be cut below
    /// [`MIN_WIDTH`]. A cell that is cut ends with an ellipsis.
    pub(super) fn render_within(&self, indent: &str, columns: Option<usize>) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if let Some(columns) = columns {
            self.narrow(&mut widths, columns.saturating_sub(indent.chars().count() + 2 * (N - 1)));
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            // The blanks before the next cell with text. Pending blanks are dropped at the end: no line ends in blanks.
            let mut pending = indent.chars().count();
            for ((cell, align), width) in row.iter().zip(self.align).zip(widths) {
                let shown = cut(&cell.text, width);
                let padding = width - shown.chars().count();
                let (before, after) = if align == Align::Right { (padding, 0) } else { (0, padding) };
                if cell.text.is_empty() {
                    pending += width + 2;
                    continue;
                }
                line.extend(std::iter::repeat_n(' ', pending + before));
                line.push_str(&cell.tone.paint(&shown));
                pending = after + 2;
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// Narrows the widest columns of words until all columns together have this width.
    fn narrow(&self, widths: &mut [usize; N], room: usize) {
        while widths.iter().sum::<usize>() > room {
            let words = widths.iter().zip(self.align).enumerate();
            let words = words.filter(|(_, (width, align))| *align == Align::Left && **width > MIN_WIDTH);
            let Some((widest, _)) = words.max_by_key(|(position, (width, _))| (**width, *position)) else { return };
            widths[widest] -= 1;
        }
    }
}

/// Narrowest column that is cut.
const MIN_WIDTH: usize = 8;

/// The text, cut with an ellipsis where it is longer than `width` characters.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_blanks() {
        let mut table = Table::new([("NAME", Align::Left), ("N", Align::Right), ("WHY", Align::Left)]);
        table.row(["a".into(), "100".into(), "because".into()]);
        table.row(["longer".into(), "1".into(), "".into()]);
        table.row(["".into(), "20".into(), "ä".into()]);
        let text = anstream::adapter::strip_str(&table.render("  ")).to_string();
        insta::assert_snapshot!(text.replace(' ', "."), @r"
        ..NAME......N..WHY
        ..a.......100..because
        ..longer....1
        ...........20..ä
        ");
    }

    #[test]
    fn the_widest_words_are_cut_to_the_width_of_the_terminal() {
        let mut table = Table::new([("BACKEND", Align::Left), ("INDEX", Align::Right), ("WHY", Align::Left)]);
        table.row(["checkout".into(), "123456789012".into(), "a long reason of a person in a hurry".into()]);
        let text = |columns| anstream::adapter::strip_str(&table.render_within("", columns)).to_string();
        assert_eq!(text(Some(200)), text(None));
        insta::assert_snapshot!(text(Some(40)), @r"
        BACKEND          INDEX  WHY
        checkout  123456789012  a long reason o…
        ");
        // A number is never cut, and no column gets narrower than a few characters.
        assert!(text(Some(10)).contains("checkout  123456789012  a long …"), "{}", text(Some(10)));
    }
}
