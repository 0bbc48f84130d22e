//! Tables in plain text.

/// Which side a column's texts stand at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a head, with two spaces between the columns. What a terminal would act on is taken out.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| super::shown(&cell)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines, the head among them, each cut after so many characters.
    pub(super) fn lines(&self, most: usize) -> Vec<String> {
        let heads: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows: Vec<&Vec<String>> = std::iter::once(&heads).chain(&self.rows).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(self.columns.iter().zip(&widths));
            let cells: Vec<String> = cells
                .map(|(cell, ((_, side), width))| match side {
                    Side::Left => format!("{cell:<width$}"),
                    Side::Right => format!("{cell:>width$}"),
                })
                .collect();
            let line: String = cells.join("  ").trim_end().chars().take(most).collect();
            line
        };
        rows.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Side::Left), ("requests", Side::Right)]);
        assert!(table.is_empty());
        table.row(["é\u{1b}[31m".to_owned(), "12".to_owned()]);
        table.row(["longer name".to_owned(), "1234567890".to_owned()]);
        assert_eq!(
            table.lines(100),
            ["name           requests", "é [31m               12", "longer name  1234567890"]
        );
        assert_eq!(table.lines(8)[2], "longer n");
    }
}
