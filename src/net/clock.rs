//! Where the moments come from that everything below is handed.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Instant;

/// The monotonic clock of one driver, and beside it the wall clock, which is data and never a timer.
///
/// Its moments count from its making and never go back, whatever anybody does to the time of day. Copies share the
/// origin, so their moments compare; those of two clocks made apart do not. On Linux it stands still while the machine
/// sleeps (`CLOCK_MONOTONIC`), so that waking up does not look like silence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn new() -> Self {
        Clock { origin: std::time::Instant::now() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Instant {
        let since = self.origin.elapsed();
        // A clock that has run for half a million years stands still.
        let micros = since.as_secs().saturating_mul(1_000_000).saturating_add(since.subsec_micros().into());
        Instant::from_micros(micros)
    }

    /// The time of day in nanoseconds since 1970, UTC, as heartbeats carry it; 0 on a machine that thinks it earlier.
    ///
    /// It jumps when somebody sets it. The only place that asks for it: no timer may ever depend on it.
    pub(crate) fn wall_clock_ns() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_never_go_back_and_copies_agree() {
        let clock = Clock::new();
        let copy = clock;
        let mut last = Instant::ZERO;
        for _ in 0..10_000 {
            for now in [clock.now(), copy.now()] {
                assert!(now >= last);
                last = now;
            }
        }
    }

    #[test]
    fn moments_advance_as_fast_as_time_does() {
        let outer = std::time::Instant::now();
        let clock = Clock::new();
        let inner = std::time::Instant::now();
        let micros = loop {
            let least = inner.elapsed().as_micros();
            let now = clock.now().as_micros();
            assert!(u128::from(now) >= least);
            assert!(u128::from(now) <= outer.elapsed().as_micros());
            if now > 2_000 {
                break now;
            }
        };
        assert!(micros > 2_000);
    }

    #[test]
    fn wall_clock_is_in_nanoseconds_since_1970() {
        const YEAR_2024: u64 = 1_704_067_200_000_000_000;
        const YEAR_2200: u64 = 7_258_118_400_000_000_000;
        assert!((YEAR_2024..YEAR_2200).contains(&Clock::wall_clock_ns()));
    }
}
