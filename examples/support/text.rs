//! Numbers as people read them, and never wider than five letters where the live line shows them.

use std::str;
use std::time::Duration;

/// `1 234 567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<&str> = groups.map(|group| str::from_utf8(group).expect("digits are text")).collect();
    groups.join(" ")
}

/// `37`, `9999`, `20.1k`, `1.23M`: at most five letters below a thousand million.
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r < 9_999.5 => format!("{r:.0}"),
        r if r < 99_950.0 => format!("{:.1}k", r / 1e3),
        r if r < 999_500.0 => format!("{:.0}k", r / 1e3),
        r if r < 9_995_000.0 => format!("{:.2}M", r / 1e6),
        r if r < 99_950_000.0 => format!("{:.1}M", r / 1e6),
        r => format!("{:.0}M", r / 1e6),
    }
}

/// `<1us`, `85us`, `1.2ms`, `320ms`, `3.4s`: at most five letters below ten thousand seconds.
pub fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        us if us < 0.5 => "<1us".to_owned(),
        us if us < 999.5 => format!("{us:.0}us"),
        us if us < 9_950.0 => format!("{:.1}ms", us / 1e3),
        us if us < 999_500.0 => format!("{:.0}ms", us / 1e3),
        us if us < 9.95e6 => format!("{:.1}s", us / 1e6),
        us => format!("{:.0}s", us / 1e6),
    }
}

/// A time that may not be known.
pub fn time_or_dash(known: Option<Duration>) -> String {
    known.map_or("-".to_owned(), time)
}

/// Lays rows out in columns, the first to the left, the others to the right, two spaces between them.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            line += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cut_into_thousands() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1 000", "12 345 678"]);
    }

    #[test]
    fn rates_and_times_keep_to_five_letters() {
        let rates = [0.4, 37.0, 9_999.4, 9_999.5, 99_949.0, 99_951.0, 999_499.0, 999_501.0, 9_996_000.0, 2e8];
        let shown = ["0", "37", "9999", "10.0k", "99.9k", "100k", "999k", "1.00M", "10.0M", "200M"];
        assert_eq!(rates.map(rate), shown);
        let times = [
            0,
            600,
            85_400,
            999_400,
            999_600,
            9_949_000,
            9_951_000,
            999_000_000,
            999_600_000,
            12_000_000_000,
        ];
        let shown = ["<1us", "1us", "85us", "999us", "1.0ms", "9.9ms", "10ms", "999ms", "1.0s", "12s"];
        assert_eq!(times.map(|ns| time(Duration::from_nanos(ns))), shown);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["name", "n"], vec!["x", "1 000", ""], vec!["total"]];
        let rows = rows.map(|row| row.into_iter().map(String::from).collect());
        assert_eq!(table(&rows), "name       n\nx      1 000\ntotal\n");
    }
}
