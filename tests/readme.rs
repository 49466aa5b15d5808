//! The README's table of limits says what the code does.

use std::collections::BTreeMap;

use pulsewire::Limits;

/// `16 MiB`, `65 536`, `50 us`, `200 ms`, `5 s` as bytes, a count, or microseconds.
fn value(cell: &str) -> u64 {
    let digits: String = cell.chars().filter(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().unwrap_or_else(|_| panic!("no number in {cell:?}"));
    match cell.rsplit(' ').next() {
        Some("KiB") => number << 10,
        Some("MiB") => number << 20,
        Some("ms") => number * 1_000,
        Some("s") => number * 1_000_000,
        _ => number,
    }
}

/// The fields of a `Limits`, read off its `Debug` text, durations in microseconds.
fn fields(limits: &Limits) -> BTreeMap<String, u64> {
    let text = format!("{limits:?}");
    let inner = text.trim_start_matches("Limits {").trim_end_matches('}');
    let pair = |field: &str| {
        let (name, value) = field.split_once(": ").expect("a name and a value");
        let number = if let Some(micros) = value.strip_suffix("µs") {
            micros.parse().expect("whole microseconds")
        } else if let Some(nanos) = value.strip_suffix("ns") {
            nanos.parse::<u64>().expect("whole nanoseconds") / 1_000
        } else if let Some(millis) = value.strip_suffix("ms") {
            millis.parse::<u64>().expect("whole milliseconds") * 1_000
        } else if let Some(seconds) = value.strip_suffix('s') {
            seconds.parse::<u64>().expect("whole seconds") * 1_000_000
        } else {
            value.parse().expect("a number")
        };
        (name.trim().to_string(), number)
    };
    inner.split(", ").map(|field| pair(field.trim())).collect()
}

#[test]
fn the_table_of_limits_is_complete_and_true() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (default, tiny) = (fields(&Limits::default()), fields(&Limits::tiny()));
    let mut named = Vec::new();
    for line in readme.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_start_matches('`').split('`').next().unwrap();
        let Some(expected) = default.get(name) else { continue };
        assert_eq!(value(cells[1]), *expected, "default of {name}");
        assert_eq!(value(cells[2]), tiny[name], "tiny of {name}");
        named.push(name.to_string());
    }
    named.sort();
    assert_eq!(named, default.keys().cloned().collect::<Vec<_>>(), "every limit has its line");
}
