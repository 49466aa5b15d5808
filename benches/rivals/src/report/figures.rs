//! The figures that tables, plots and goals speak of.

use super::Measured;
use crate::cases::{Case, Figures};

/// One figure of a measurement, and how to read it.
#[derive(Clone, Copy)]
pub struct Figure {
    name: &'static str,
    unit: &'static str,
    is_better_lower: bool,
    of: fn(&Measured) -> Option<f64>,
}

impl Figure {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name with its unit.
    pub fn title(&self) -> String {
        if self.unit.is_empty() {
            self.name.into()
        } else {
            format!("{}, {}", self.name, self.unit)
        }
    }

    pub fn is_better_lower(&self) -> bool {
        self.is_better_lower
    }

    /// Its value in a measurement, if it has one.
    pub fn of(&self, run: &Measured) -> Option<f64> {
        (self.of)(run).filter(|value| value.is_finite())
    }
}

fn get(figures: &Figures, name: &str) -> Option<f64> {
    figures.get(name).copied()
}

const fn less(name: &'static str, unit: &'static str, of: fn(&Measured) -> Option<f64>) -> Figure {
    Figure { name, unit, is_better_lower: true, of }
}

const fn more(name: &'static str, unit: &'static str, of: fn(&Measured) -> Option<f64>) -> Figure {
    Figure { name, unit, is_better_lower: false, of }
}

pub const P50: Figure = less("p50", "us", |run| get(&run.client, "p50_us"));
pub const P99: Figure = less("p99", "us", |run| get(&run.client, "p99_us"));
pub const CALLS: Figure = more("calls", "per s", |run| get(&run.client, "calls_per_s"));
pub const MESSAGES: Figure = more("received", "messages/s", |run| get(&run.client, "messages_per_s"));
pub const PUBLICATIONS: Figure = more("published", "per s", |run| get(&run.server, "publications_per_s"));
pub const PUBLICATION: Figure = less("a publication", "ns", |run| get(&run.server, "publication_ns"));
pub const WIRE: Figure = less("on the wire", "bytes per publication", |run| get(&run.server, "wire_bytes"));
pub const LOST: Figure = less("lost", "part of all", |run| get(&run.client, "lost"));
pub const UNREPORTED: Figure = less("lost without a word", "messages", |run| get(&run.client, "unreported"));
pub const SERVER_CPU: Figure = less("server CPU", "ns each", |run| get(&run.server, "cpu_ns"));
pub const CLIENT_CPU: Figure = less("client CPU", "ns each", |run| get(&run.client, "cpu_ns"));
pub const BOTH_CPU: Figure =
    less("CPU of both", "ns each", |run| Some(get(&run.server, "cpu_ns")? + get(&run.client, "cpu_ns")?));
pub const DELIVERY_CPU: Figure =
    less("publisher CPU", "ns per delivery", |run| get(&run.server, "cpu_per_delivery_ns"));
pub const SERVER_WAITS: Figure = less("server waits", "each", |run| get(&run.server, "waits"));
pub const CLIENT_WAITS: Figure = less("client waits", "each", |run| get(&run.client, "waits"));
pub const RESIDENT: Figure = less("resident", "KiB", |run| get(&run.server, "resident_kib"));
pub const THREADS: Figure = less("threads", "", |run| get(&run.server, "threads"));
pub const WAKE_UPS: Figure = less("wake-ups", "per s", |run| get(&run.server, "waits_per_s"));
pub const BINARY: Figure = less("binary", "KB", |run| get(&run.server, "binary_kb"));

/// What a case is about: the first is plotted and compared, all are in its tables.
pub fn headline(case: Case) -> &'static [Figure] {
    match case {
        Case::RoundTrip => &[P50, P99, SERVER_CPU, CLIENT_CPU, SERVER_WAITS, CLIENT_WAITS],
        Case::Callers | Case::Pipeline => &[CALLS, SERVER_CPU, CLIENT_CPU, SERVER_WAITS, CLIENT_WAITS],
        Case::Throughput => &[MESSAGES, LOST, SERVER_CPU, CLIENT_CPU, SERVER_WAITS, CLIENT_WAITS],
        Case::FanOut => &[MESSAGES, LOST, DELIVERY_CPU, CLIENT_CPU],
        Case::Paced => &[P50, P99, SERVER_CPU, CLIENT_CPU, SERVER_WAITS, CLIENT_WAITS],
        Case::Filter => &[PUBLICATIONS, PUBLICATION, WIRE, LOST],
        Case::Fairness => &[P99, P50, CALLS],
        Case::Idle => &[RESIDENT, THREADS, WAKE_UPS, BINARY],
    }
}

/// A number with three digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 999_500.0 => format!("{} M", three_digits(value / 1e6)),
        size if size >= 9_995.0 => format!("{} k", three_digits(value / 1e3)),
        size if size >= 999.5 => format!("{value:.0}"),
        _ => three_digits(value),
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.000_5 || size == 0.0 => {
            let text = format!("{value:.3}");
            let digits = if size >= 0.999_5 { &text[..text.len() - 1] } else { &text };
            digits.into()
        }
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let texts = [
            (5_812_345.0, "5.81 M"),
            (63_600_000.0, "63.6 M"),
            (104_321.0, "104 k"),
            (9_994.0, "9994"),
            (62.34, "62.3"),
            (7.123, "7.12"),
            (0.154, "0.154"),
            (0.0, "0.000"),
        ];
        for (value, text) in texts {
            assert_eq!(number(value), text);
        }
    }
}
