//! Prices and volumes as whole numbers of steps, so that nothing is lost by adding them up.

/// The multiples of one step: of a price, or of a volume.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    step: f64,
    /// Steps in 1, if that is a whole number. Dividing by it gives the number nearest to the decimal, which multiplying by
    /// 0.01 does not.
    per_unit: Option<f64>,
}

/// Whole numbers up to here are exact as floating point.
const LIMIT: f64 = 9_007_199_254_740_992.0;

/// How far from a multiple a number may be and still be meant as one, in steps: what is left of a decimal after some
/// arithmetic.
const TOLERANCE: f64 = 1e-6;

impl Grid {
    /// The most steps that a number may have.
    pub(super) const MOST_STEPS: i64 = 1 << 53;

    /// `None` unless the step is above 0 and finite.
    pub(super) fn new(step: f64) -> Option<Self> {
        let inverse = (1.0 / step).round();
        let is_whole = (1.0..LIMIT).contains(&inverse) && (inverse * step - 1.0).abs() < 1e-12;
        (step > 0.0 && step.is_finite()).then_some(Grid { step, per_unit: is_whole.then_some(inverse) })
    }

    /// The smallest difference between two of its numbers.
    pub(super) fn step(&self) -> f64 {
        self.step
    }

    /// How many steps this is; `None` if it is between two, or too many.
    pub(super) fn exact(&self, value: f64) -> Option<i64> {
        let steps = self.steps(value);
        whole(steps.round()).filter(|_| (steps - steps.round()).abs() <= tolerance(steps))
    }

    /// The most steps that are not above this.
    pub(super) fn floor(&self, value: f64) -> Option<i64> {
        let steps = self.steps(value);
        whole((steps + tolerance(steps)).floor())
    }

    /// The fewest steps that are not below this.
    pub(super) fn ceil(&self, value: f64) -> Option<i64> {
        let steps = self.steps(value);
        whole((steps - tolerance(steps)).ceil())
    }

    /// So many steps.
    pub(super) fn value(&self, steps: i64) -> f64 {
        match self.per_unit {
            Some(per_unit) => steps as f64 / per_unit,
            None => steps as f64 * self.step,
        }
    }

    fn steps(&self, value: f64) -> f64 {
        self.per_unit.map_or(value / self.step, |per_unit| value * per_unit)
    }
}

fn tolerance(steps: f64) -> f64 {
    TOLERANCE.max(4.0 * f64::EPSILON * steps.abs())
}

#[allow(clippy::cast_possible_truncation)] // It is whole, and far below what the type holds.
fn whole(steps: f64) -> Option<i64> {
    (steps.abs() <= LIMIT).then_some(steps as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[test]
    fn multiples_are_told_from_what_is_between() {
        let cents = Grid::new(0.01).unwrap();
        assert_eq!(cents.exact(1054.35), Some(105_435));
        assert_eq!(cents.exact(0.1 + 0.2), Some(30), "as near as arithmetic comes");
        assert_eq!(cents.exact(1054.355), None);
        assert_eq!((cents.floor(1054.355), cents.ceil(1054.355)), (Some(105_435), Some(105_436)));
        assert_eq!((cents.floor(1054.35), cents.ceil(1054.35)), (Some(105_435), Some(105_435)));
        assert_eq!((cents.floor(-0.015), cents.ceil(-0.015)), (Some(-2), Some(-1)));
        let quarters = Grid::new(2.5).unwrap();
        assert_eq!((quarters.exact(7.5), quarters.exact(6.0), quarters.value(3)), (Some(3), None, 7.5));
    }

    #[test]
    fn steps_that_are_none_and_numbers_beyond_all_are_refused() {
        for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Grid::new(step), None, "{step}");
        }
        let ones = Grid::new(1.0).unwrap();
        for value in [1e300, f64::INFINITY, f64::NAN] {
            assert_eq!(
                (ones.exact(value), ones.floor(value), ones.ceil(value)),
                (None, None, None),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_multiple_is_found_again(steps in -1_000_000_000_i64..1_000_000_000, step in select(&[
            1e-8, 1e-6, 0.0001, 0.01, 0.05, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ][..])) {
            let grid = Grid::new(step).unwrap();
            let value = grid.value(steps);
            prop_assert_eq!(grid.exact(value), Some(steps));
            prop_assert_eq!(grid.floor(value), Some(steps));
            prop_assert_eq!(grid.ceil(value), Some(steps));
        }
    }
}
