//! Tables: aligned columns, measured in terminal cells, shortened where the terminal is narrow.

use std::borrow::Cow;
use std::io::{self, Write};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::style::{DIM, Styled};

/// Between two columns.
const GAP: usize = 2;
/// No column is shortened below this.
const NARROWEST: usize = 8;

/// A column's head and how its cells are laid out.
#[derive(Clone, Debug)]
pub struct Column {
    head: &'static str,
    right: bool,
    shrinks: bool,
}

impl Column {
    /// Text, aligned to the left.
    pub const fn text(head: &'static str) -> Self {
        Self {
            head,
            right: false,
            shrinks: false,
        }
    }

    /// Numbers, aligned to the right.
    pub const fn number(head: &'static str) -> Self {
        Self {
            head,
            right: true,
            shrinks: false,
        }
    }

    /// Shortened with an ellipsis when the table is wider than the terminal.
    #[must_use]
    pub const fn shrinks(mut self) -> Self {
        self.shrinks = true;
        self
    }
}

/// One cell. Control characters are escaped: names come from other processes.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Plain text.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let text = if text.chars().any(char::is_control) {
            text.escape_debug().to_string()
        } else {
            text
        };
        Self {
            text,
            style: Style::new(),
        }
    }

    /// In a style of the palette.
    #[must_use]
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::new(n.to_string())
    }
}

impl From<u32> for Cell {
    fn from(n: u32) -> Self {
        Self::new(n.to_string())
    }
}

/// Rows under heads.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
            indent: 0,
        }
    }

    /// Moved to the right by so many cells.
    #[must_use]
    pub fn indent(mut self, cells: usize) -> Self {
        self.indent = cells;
        self
    }

    /// Adds a row; what is missing at its end stays empty, what is too much is dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows
            .push(cells.into_iter().take(self.columns.len()).collect());
    }

    /// Writes it, fitted to `width` cells where that is given.
    pub(super) fn write(&self, to: &mut impl Write, width: Option<usize>) -> io::Result<()> {
        let widths = self.widths(width);
        let heads: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::new(column.head).style(DIM))
            .collect();
        self.write_row(to, &heads, &widths)?;
        for row in &self.rows {
            self.write_row(to, row, &widths)?;
        }
        Ok(())
    }

    fn write_row(&self, to: &mut impl Write, row: &[Cell], widths: &[usize]) -> io::Result<()> {
        // Blanks are written only in front of something, so that no line ends with them.
        let mut pending = self.indent;
        for (i, cell) in row.iter().enumerate() {
            let text = shorten(&cell.text, widths[i]);
            let blank = widths[i].saturating_sub(text.width());
            let (before, after) = if self.columns[i].right {
                (blank, 0)
            } else {
                (0, blank)
            };
            pending += before;
            if !text.is_empty() {
                write!(to, "{:pending$}{}", "", Styled(&text, cell.style))?;
                pending = 0;
            }
            pending += after + GAP;
        }
        writeln!(to)
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .map(|column| column.head.width())
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let Some(limit) = limit else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1) + self.indent;
        while widths.iter().sum::<usize>() + gaps > limit {
            let widest = (0..widths.len())
                .filter(|&i| self.columns[i].shrinks && widths[i] > NARROWEST)
                .max_by_key(|&i| widths[i]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        widths
    }
}

/// The start of a text that fits `width` cells, with an ellipsis where something is left off.
fn shorten(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let cells = c.width().unwrap_or(0);
        if cells > left {
            break;
        }
        left -= cells;
        short.push(c);
    }
    short.push('…');
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table, width: Option<usize>) -> String {
        let mut bytes = Vec::new();
        table.write(&mut bytes, width).unwrap();
        anstream::adapter::strip_bytes(&bytes)
            .into_vec()
            .try_into()
            .unwrap()
    }

    fn sample() -> Table {
        let mut table = Table::new([
            Column::number("PID"),
            Column::text("PROGRAM").shrinks(),
            Column::text("STACK"),
        ]);
        table.row([7_u32.into(), "redis-server".into(), "kernel".into()]);
        table.row([12345_u32.into(), "a-program-with-a-long-name".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        assert_eq!(
            written(&sample(), None),
            "  PID  PROGRAM                     STACK\n    7  redis-server                kernel\n12345  a-program-with-a-long-name\n"
        );
    }

    #[test]
    fn a_narrow_terminal_shortens_only_what_may_be() {
        let text = written(&sample(), Some(30));
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
        assert!(text.contains("redis-server"), "{text}");
        assert!(text.contains("a-program-with…"), "{text}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new([Column::text("X")]);
        table.row([Cell::new("a\x1b[31mb\n")]);
        assert_eq!(written(&table, None), "X\na\\u{1b}[31mb\\n\n");
    }
}
