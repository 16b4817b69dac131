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
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            // The blanks before the next cell with text. Pending blanks are dropped at the end: no line ends in blanks.
            let mut pending = indent.chars().count();
            for ((cell, align), width) in row.iter().zip(self.align).zip(widths) {
                let padding = width - cell.text.chars().count();
                let (before, after) = if align == Align::Right { (padding, 0) } else { (0, padding) };
                if cell.text.is_empty() {
                    pending += width + 2;
                    continue;
                }
                line.extend(std::iter::repeat_n(' ', pending + before));
                line.push_str(&cell.tone.paint(&cell.text));
                pending = after + 2;
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
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
}
