//! How long things took: a histogram that travels between processes as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time told apart from longer ones.
const MAX_NS: u64 = 600_000_000_000;

/// Significant digits kept of each time.
const DIGITS: u8 = 2;

/// A histogram of times in nanoseconds, right to two digits.
///
/// As text it is its non-empty buckets: `85000:12,86000:3`, or `-` if there are none.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency(Histogram<u64>);

impl Latency {
    pub fn new() -> Self {
        Latency(Histogram::new_with_bounds(1, MAX_NS, DIGITS).expect("the bounds are in order"))
    }

    pub fn record(&mut self, time: Duration) {
        self.record_ns(u64::try_from(time.as_nanos()).unwrap_or(MAX_NS));
    }

    /// Longer times count as the longest, none at all as a nanosecond.
    pub fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    pub fn add(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time below or at which this share, from 0 to 1, of all times lie; `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.0.value_at_quantile(share)))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.count() == 0 {
            return f.write_str("-");
        }
        let mut separator = "";
        for bucket in self.0.iter_recorded() {
            write!(f, "{separator}{}:{}", bucket.value_iterated_to(), bucket.count_at_value())?;
            separator = ",";
        }
        Ok(())
    }
}

/// The text is not that of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLatency;

impl FromStr for Latency {
    type Err = NotLatency;

    fn from_str(text: &str) -> Result<Self, NotLatency> {
        let mut latency = Latency::new();
        if text == "-" {
            return Ok(latency);
        }
        for bucket in text.split(',') {
            let (ns, count) = bucket.split_once(':').ok_or(NotLatency)?;
            let ns = ns.parse().map_err(|_| NotLatency)?;
            let count = count.parse().map_err(|_| NotLatency)?;
            latency.0.record_n(ns, count).map_err(|_| NotLatency)?;
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_keeps_counts_and_quantiles() {
        let mut latency = Latency::new();
        assert_eq!(latency.to_string(), "-");
        assert_eq!("-".parse(), Ok(latency.clone()));
        assert_eq!(latency.quantile(0.5), None);
        for ns in (0..100_000).chain([u64::MAX, 7_000_000_000]) {
            latency.record_ns(ns);
        }
        let copy: Latency = latency.to_string().parse().unwrap();
        assert_eq!(copy.count(), 100_002);
        for share in [0.0, 0.01, 0.5, 0.99, 1.0] {
            assert_eq!(copy.quantile(share), latency.quantile(share), "{share}");
        }
        let median = latency.quantile(0.5).unwrap().as_nanos();
        assert!((49_000..51_500).contains(&median), "{median}");
    }

    #[test]
    fn adding_is_recording_both() {
        let (mut one, mut other) = (Latency::new(), Latency::new());
        one.record(Duration::from_micros(5));
        other.record(Duration::from_secs(5));
        one.add(&other);
        assert_eq!(one.count(), 2);
        assert!(one.quantile(1.0) >= Some(Duration::from_secs(5)));
        one.clear();
        assert_eq!(one.count(), 0);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "1", "1:", ":1", "1:2,", "1:2;3:4", "a:1", "1:-1", "999999999999999:1"] {
            assert_eq!(text.parse::<Latency>(), Err(NotLatency), "{text:?}");
        }
    }
}
