//! The clock that is handed in: a moment in microseconds, with no idea where it comes from.
//!
//! Everything below `net` takes `now` as an argument and answers with the moment at which it wants to be called
//! again. A driver hands in a monotonic clock, a simulator a number that it counts up itself. Wall-clock time never
//! takes part: it is data (the heartbeat carries it), not a timer.

use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, AddAssign};
pub use core::time::Duration;

/// A moment, in microseconds since an origin that the driver chose (usually its own start).
///
/// Arithmetic saturates: a deadline that is too far away to be expressed is "never", not a wrap into the past.
///
/// It is kept as one more than its microseconds, so that an `Option` of it takes no more room: a connection has many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The origin of the clock.
    pub const ZERO: Instant = Instant::from_micros(0);
    /// The end of time: a deadline at this moment never comes.
    pub const NEVER: Instant = Instant::from_micros(u64::MAX);

    /// The moment `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Instant(NonZeroU64::MIN.saturating_add(micros))
    }

    /// The moment `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Instant::from_micros(millis.saturating_mul(1_000))
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// How long before `self` the moment `earlier` lies; zero if it does not.
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Instant {
    fn default() -> Self {
        Instant::ZERO
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, length: Duration) -> Instant {
        // Without the 128 bits of `Duration::as_micros`: every timer is asked for at every turn.
        let micros =
            length.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(length.subsec_micros()));
        Instant(self.0.saturating_add(micros))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, length: Duration) {
        *self = *self + length;
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Instant::NEVER {
            return f.write_str("never");
        }
        write!(f, "{}.{:06}s", self.as_micros() / 1_000_000, self.as_micros() % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Instant::from_millis(1) + Duration::from_micros(5), Instant::from_micros(1_005));
        assert_eq!(Instant::from_millis(u64::MAX), Instant::NEVER);
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant::ZERO.saturating_since(Instant::from_millis(1)), Duration::ZERO);
        assert_eq!(
            Instant::from_millis(3).saturating_since(Instant::from_millis(1)),
            Duration::from_millis(2)
        );
    }

    #[test]
    fn a_moment_that_may_be_absent_takes_no_more_room() {
        assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
        assert_eq!(Instant::from_micros(7).as_micros(), 7);
        assert_eq!(Instant::default(), Instant::from_micros(0));
        assert_ne!(Instant::from_micros(u64::MAX - 2), Instant::NEVER);
    }
}
