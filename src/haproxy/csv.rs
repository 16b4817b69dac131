//! The table that `show stat` answers: comma-separated values below a header. Columns are found by name.

use super::reply::BadReply;

const COMMAND: &str = "show stat";

/// Where the wanted columns stand.
pub(super) struct Columns<const N: usize> {
    /// For each column up to the last wanted one, its number among the wanted ones. There are about 100 columns and up to
    /// 10,000 rows, so the names are compared only once.
    numbers: Vec<Option<usize>>,
}

impl<const N: usize> Columns<N> {
    /// Finds the columns. Of `wanted`, the first `required` ones must be there.
    ///
    /// # Errors
    /// [`BadReply::Missing`] without a header or a required column.
    pub(super) fn of(header: Option<&str>, wanted: [&'static str; N], required: usize) -> Result<Self, BadReply> {
        let missing = |wanted| BadReply::Missing { command: COMMAND, wanted };
        let header = header.and_then(|line| line.strip_prefix("# ")).ok_or(missing("header"))?;
        let number = |name| wanted.iter().position(|wanted| *wanted == name);
        let mut numbers: Vec<_> = header.split(',').map(number).collect();
        if let Some(absent) = (0..required).find(|at| !numbers.contains(&Some(*at))) {
            return Err(missing(wanted[absent]));
        }
        numbers.truncate(numbers.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        Ok(Self { numbers })
    }

    /// The wanted fields of a row, in the order of the wanted columns; empty where the column is not there.
    ///
    /// # Errors
    /// [`BadReply::Missing`] for a truncated row: it would be parsed with missing fields.
    pub(super) fn fields<'a>(&self, row: &'a str) -> Result<[&'a str; N], BadReply> {
        let mut fields = [""; N];
        let mut found = 0;
        for (number, field) in self.numbers.iter().zip(split(row)) {
            found += 1;
            if let Some(number) = *number {
                fields[number] = field;
            }
        }
        if found < self.numbers.len() {
            return Err(BadReply::Missing { command: COMMAND, wanted: "columns of a row" });
        }
        Ok(fields)
    }
}

/// Splits a row into fields. A field with a comma or a quote is quoted. A field never spans lines.
fn split(row: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    row.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}
