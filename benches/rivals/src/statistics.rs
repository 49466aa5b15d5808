//! Medians and percentiles.

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Half the distance between the largest and the smallest value, as a part of the median: how far repetitions differ.
pub fn spread(values: &[f64]) -> Option<f64> {
    let median = median(values)?;
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (median != 0.0).then(|| (most - least) / 2.0 / median)
}

/// Times of single operations, in nanoseconds.
#[derive(Debug, Default)]
pub struct Times(Vec<u32>);

impl Times {
    pub fn with_capacity(operations: usize) -> Self {
        Times(Vec::with_capacity(operations))
    }

    /// More than four seconds count as four.
    pub fn push_ns(&mut self, ns: u64) {
        self.0.push(u32::try_from(ns).unwrap_or(u32::MAX));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest time that this part of all operations did not exceed, in microseconds.
    pub fn percentile_us(&mut self, part: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let last = self.0.len() - 1;
        let rank = ((self.0.len() as f64 * part).ceil() as usize).saturating_sub(1).min(last);
        let (_, value, _) = self.0.select_nth_unstable(rank);
        f64::from(*value) / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_between_the_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 1.0]), Some(1.0), "what was not measured does not count");
    }

    #[test]
    fn spread_is_half_the_range_over_the_median() {
        assert_eq!(spread(&[9.0, 10.0, 11.0]), Some(0.1));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut times = Times::default();
        (1..=100).rev().for_each(|us| times.push_ns(us * 1_000));
        assert_eq!((times.percentile_us(0.5), times.percentile_us(0.99)), (50.0, 99.0));
        assert_eq!(times.percentile_us(1.0), 100.0);
        assert!(Times::default().percentile_us(0.5).is_nan());
    }
}
