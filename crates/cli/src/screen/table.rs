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

/// Blanks between two columns.
const GAP: usize = 2;
/// Where less than this is left for the last column, it goes on as the terminal lets it.
const NARROWEST: usize = 24;

/// Where the columns stand.
struct Layout {
    widths: Vec<usize>,
    /// Characters before the last column.
    before: usize,
    /// Characters that the last column may have.
    room: Option<usize>,
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

    /// The lines, each with its end. A column is as wide as its widest field; the last is not padded, and goes on below itself where it
    /// would be wider than a screen of `width` characters.
    pub(crate) fn render(
        &self,
        width: Option<usize>,
        paint: impl Fn(Tone, &str) -> String,
    ) -> String {
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
        let before = widths.iter().rev().skip(1).map(|width| width + GAP).sum();
        let room = width.and_then(|width: usize| width.checked_sub(before));
        let room = room.filter(|room| *room >= NARROWEST);
        let layout = Layout {
            widths,
            before,
            room,
        };
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
            push_row(&mut lines, &titles, &layout, &paint);
        }
        for row in &self.rows {
            push_row(&mut lines, row, &layout, &paint);
        }
        lines
    }
}

fn push_row(
    lines: &mut String,
    row: &[Cell],
    layout: &Layout,
    paint: &impl Fn(Tone, &str) -> String,
) {
    for (column, cell) in row.iter().enumerate() {
        let gap = " ".repeat(layout.widths[column] - cell.width());
        let last = column + 1 == row.len();
        if cell.right {
            lines.push_str(&gap);
        }
        let room = layout.room.filter(|room| {
            column + 1 == layout.widths.len() && !cell.right && cell.width() > *room
        });
        for (at, piece) in pieces(&cell.text, room).into_iter().enumerate() {
            if at > 0 {
                lines.push('\n');
                lines.push_str(&" ".repeat(layout.before));
            }
            lines.push_str(&paint(cell.tone, &piece));
        }
        if !last {
            if !cell.right {
                lines.push_str(&gap);
            }
            lines.push_str(&" ".repeat(GAP));
        }
    }
    lines.push('\n');
}

/// The text in pieces of whole words that fit the room; a word that does not stands alone.
fn pieces(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else {
        return vec![text.to_owned()];
    };
    let mut pieces = vec![String::new()];
    let mut taken = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if taken > 0 && taken + 1 + length > room {
            pieces.push(String::new());
            taken = 0;
        }
        if let Some(piece) = pieces.last_mut() {
            if taken > 0 {
                piece.push(' ');
                taken += 1;
            }
            piece.push_str(word);
            taken += length;
        }
    }
    pieces
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
        let text = table.render(None, |tone, text| match tone {
            Tone::Plain => text.to_owned(),
            _ => format!("<{text}>"),
        });
        assert_eq!(
            text,
            "<name>           <hits>\n<ssh>               7\na\\u{1b}b  1,234,567\n"
        );
    }

    #[test]
    fn the_last_column_goes_on_below_itself_on_a_narrow_screen() {
        let mut table = Table::new(&[]);
        table.row([
            Cell::new("protected"),
            Cell::new("10.0.0.1 (own), 10.0.0.255 (broadcast), ::1 (own)"),
        ]);
        table.row([Cell::new("bans"), Cell::new("0")]);
        let plain = |_: Tone, text: &str| text.to_owned();
        let whole = "protected  10.0.0.1 (own), 10.0.0.255 (broadcast), ::1 (own)\nbans       0\n";
        for (width, text) in [
            (None, whole),
            (Some(200), whole),
            (Some(60), whole),
            (
                Some(40),
                "protected  10.0.0.1 (own), 10.0.0.255\n           (broadcast), ::1 (own)\nbans       0\n",
            ),
            // No room for a column of words.
            (Some(20), whole),
        ] {
            assert_eq!(table.render(width, plain), text, "{width:?}");
        }
        assert_eq!(
            pieces("a/very/long/path b", Some(5)),
            ["a/very/long/path", "b"]
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
