// SPDX-License-Identifier: GPL-2.0

//! Tables on the terminal.

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of as many cells as there are columns, below their headings.
pub fn layout(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        let heading = columns[column].0.chars().count();
        cells.max().unwrap_or(0).max(heading)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let mut line = String::new();
        for ((cell, &width), (_, align)) in cells.iter().zip(&widths).zip(columns) {
            let padding = " ".repeat(width - cell.chars().count());
            match align {
                Align::Left => line.extend([*cell, &padding, "  "]),
                Align::Right => line.extend([&padding, *cell, "  "]),
            }
        }
        line.trim_end().to_owned() + "\n"
    };
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut text = line(&headings);
    for row in rows {
        text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let columns = [
            ("what", Align::Left),
            ("ratio", Align::Right),
            ("", Align::Left),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "1.5", "met"]), row(["longer", "123.45", ""])];
        let expected = "what     ratio\na          1.5  met\nlonger  123.45\n";
        assert_eq!(layout(&columns, &rows), expected);
    }

    #[test]
    fn a_character_is_one_wide_however_many_bytes_it_has() {
        let columns = [("goal", Align::Left), ("x", Align::Left)];
        let rows = [vec!["≥ 20".to_owned(), "y".to_owned()]];
        assert_eq!(layout(&columns, &rows), "goal  x\n≥ 20  y\n");
    }

    #[test]
    fn without_rows_there_are_headings() {
        assert_eq!(layout(&[("a", Align::Left)], &[]), "a\n");
    }
}
