//! Tables for people: columns as wide as what is in them.

use std::fmt::Write as _;

/// What a heading looks like on a terminal.
const HEADING: &str = "\x1b[2m";
/// What is after it.
const PLAIN: &str = "\x1b[0m";
/// Between two columns.
const GAP: usize = 2;

/// A table under construction.
#[derive(Clone, Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts with the names of the columns.
    pub(super) fn new(columns: &[&str]) -> Self {
        let heading = columns.iter().map(|column| (*column).to_owned());
        Self {
            rows: vec![heading.collect()],
        }
    }

    /// Adds a row; an empty cell becomes a dash.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| match cell.is_empty() {
            true => "-".to_owned(),
            // What others named must not move the terminal's cursor.
            false => cell.chars().filter(|c| !c.is_control()).collect(),
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// Renders it; numbers stand at the right of their columns.
    pub(super) fn render(&self, colour: bool) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let is_number = |cell: &String| {
            cell.chars()
                .all(|c| c.is_ascii_digit() || "-.%".contains(c))
        };
        let right: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(column));
                cells.all(is_number) && self.rows.len() > 1
            })
            .collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
                let blanks = " ".repeat(width - cell.chars().count());
                let gap = if line.is_empty() { 0 } else { GAP };
                line.push_str(&" ".repeat(gap));
                match right {
                    true => line.extend([blanks.as_str(), cell]),
                    false => line.extend([cell, blanks.as_str()]),
                }
            }
            let line = line.trim_end();
            // A String takes everything.
            match index == 0 && colour {
                true => writeln!(text, "{HEADING}{line}{PLAIN}").ok(),
                false => writeln!(text, "{line}").ok(),
            };
        }
        text
    }
}

/// Says how long something has lasted: `950ms`, `12s`, `3m20s`, `5h07m`, `3d04h`.
pub(super) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Shortens ascending numbers: `0-3 8 10-11`.
pub(super) fn runs(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let shown = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_at_the_right() {
        let mut table = Table::new(&["NAME", "ROWS", "STATE"]);
        table.row(["worker-0".into(), "7".into(), "seated".into()]);
        table.row(["w\x1b[2J".into(), "1024".into(), String::new()]);
        let expected = "NAME      ROWS  STATE\nworker-0     7  seated\nw[2J      1024  -\n";
        assert_eq!(table.render(false), expected);
        let coloured = table.render(true);
        assert!(coloured.starts_with("\x1b[2mNAME      ROWS  STATE\x1b[0m\n"));
    }

    #[test]
    fn times_and_numbers_are_short() {
        let at = [950, 12_000, 200_000, 18_420_000, 273_600_000];
        let shown = at.map(duration);
        assert_eq!(shown, ["950ms", "12s", "3m20s", "5h07m", "3d04h"]);
        assert_eq!(runs(&[0, 1, 2, 3, 8, 10, 11]), "0-3 8 10-11");
        assert_eq!(runs(&[]), "");
    }
}
