//! Columns that line up.

use super::{Tone, visible, visible_once};

/// One field of a table.
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// Text, made visible.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: visible(text.as_ref()),
            tone: Tone::Plain,
            right: false,
        }
    }

    /// Text that the daemon has made visible already.
    pub(crate) fn escaped(text: &str) -> Self {
        Self {
            text: visible_once(text),
            tone: Tone::Plain,
            right: false,
        }
    }

    /// A number that nobody knows.
    pub(crate) fn unknown() -> Self {
        Self {
            text: "-".to_owned(),
            tone: Tone::Faint,
            right: true,
        }
    }

    /// A number: right-aligned, with thin groups of three digits from 10,000 on.
    pub(crate) fn number(number: u64) -> Self {
        Self {
            text: grouped(number),
            tone: Tone::Plain,
            right: true,
        }
    }

    /// The same in a tone.
    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Rows under a heading.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns; an empty list makes one without a heading.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with its end. A column is as wide as its widest field; the last is not padded.
    pub(crate) fn render(&self, paint: impl Fn(Tone, &str) -> String) -> String {
        let columns = self
            .rows
            .iter()
            .map(Vec::len)
            .chain([self.head.len()])
            .max()
            .unwrap_or(0);
        let mut widths = vec![0; columns];
        for (column, title) in self.head.iter().enumerate() {
            widths[column] = title.chars().count();
        }
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                widths[column] = widths[column].max(cell.width());
            }
        }
        let mut lines = String::new();
        if !self.head.is_empty() {
            let titles: Vec<Cell> = self
                .head
                .iter()
                .enumerate()
                .map(|(column, title)| Cell {
                    text: (*title).to_owned(),
                    tone: Tone::Faint,
                    right: self
                        .rows
                        .iter()
                        .any(|row| row.get(column).is_some_and(|cell| cell.right)),
                })
                .collect();
            push_row(&mut lines, &titles, &widths, &paint);
        }
        for row in &self.rows {
            push_row(&mut lines, row, &widths, &paint);
        }
        lines
    }
}

fn push_row(
    lines: &mut String,
    row: &[Cell],
    widths: &[usize],
    paint: &impl Fn(Tone, &str) -> String,
) {
    for (column, cell) in row.iter().enumerate() {
        let gap = " ".repeat(widths[column] - cell.width());
        let last = column + 1 == row.len();
        if cell.right {
            lines.push_str(&gap);
        }
        lines.push_str(&paint(cell.tone, &cell.text));
        if !last {
            if !cell.right {
                lines.push_str(&gap);
            }
            lines.push_str("  ");
        }
    }
    lines.push('\n');
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() <= 4 {
        return digits;
    }
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for (index, digit) in digits[first..].chars().enumerate() {
        if index % 3 == 0 && !text.is_empty() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_tone() {
        let mut table = Table::new(&["name", "hits"]);
        table.row([Cell::new("ssh").tone(Tone::Good), Cell::number(7)]);
        table.row([Cell::new("a\x1bb"), Cell::number(1_234_567)]);
        let text = table.render(|tone, text| match tone {
            Tone::Plain => text.to_owned(),
            _ => format!("<{text}>"),
        });
        assert_eq!(
            text,
            "<name>           <hits>\n<ssh>               7\na\\u{1b}b  1,234,567\n"
        );
    }

    #[test]
    fn digits_are_grouped_from_five_on() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10,000"),
            (123_456_789, "123,456,789"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
