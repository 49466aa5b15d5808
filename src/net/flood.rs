//! When a publication is written at once, and when it is gathered with others.

use crate::time::{Duration, Instant};

/// Tells a flood of publications from a few, and when what a flood has gathered is written.
///
/// A write costs some microseconds, whatever its size up to a chunk, and with many subscribers there is one for each. So
/// a publication that comes alone, or one of a few, is written at once; when they come faster than writes are worth, those
/// between two writes go together. That is batching that comes from load: who publishes less often than the pace below,
/// and than writing takes, never waits for anything.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// Writes that may still be made at once.
    credit: u32,
    last_write: Instant,
    /// How long the last one took, all subscribers together.
    effort: Duration,
    /// Bytes gathered since.
    gathered: usize,
    /// Publications gathered since the clock was last looked at, when that was, and after how many it is looked at next.
    unlooked: u32,
    last_look: Instant,
    stride: u32,
    /// Something was gathered since the driver last paid attention.
    is_waiting: bool,
    /// The driver looks again in a while, so it need not be woken.
    is_attended: bool,
}

/// A write at once is paid for by so much time without any, or by as much as the last one took.
const PACE: Duration = Duration::from_micros(5);
/// So many writes may come in quick succession.
const MOST_CREDIT: u32 = 8;
/// Less one for so much time that they take, where many are written to.
const CREDIT_TIME: Duration = Duration::from_micros(100);
/// What has been gathered is written at the latest with the first publication after this.
const GATHER_TIME: Duration = Duration::from_micros(50);
/// The clock costs as much as a publication: in a flood it is asked so rarely that this much time passes in between, and
/// after so many publications at most.
const LOOK_PACE: Duration = Duration::from_micros(2);
const MOST_STRIDE: u32 = 64;
/// However long it takes, a publication does not wait longer than this for the one before.
const MOST_EFFORT: Duration = Duration::from_millis(1);
/// A chunk: so much goes with one write.
const GATHER_BYTES: usize = 64 * 1024;
/// What a publication takes there beside its topic and data, at most.
const FRAME_BYTES: usize = 16;
/// The driver looks so often after what a flood may have left behind at its end: the kernel's poll counts milliseconds.
const ATTENTION: Duration = Duration::from_millis(1);

impl Flood {
    /// One more of so many bytes waits to be written. True: it is to be written now, with all the others.
    #[inline]
    pub(super) fn gather(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> bool {
        // Nothing waits: whether this one may go at once, the time since the last write says.
        let is_first = self.gathered == 0;
        let bytes = bytes.saturating_add(FRAME_BYTES);
        self.gathered = self.gathered.saturating_add(bytes);
        self.unlooked += 1;
        // Another one like it would need a write of its own.
        let is_full = self.gathered.saturating_add(bytes) > GATHER_BYTES;
        if !is_full && !is_first && self.is_attended && self.unlooked < self.stride {
            self.is_waiting = true;
            return false;
        }
        self.look(is_first, is_full, now())
    }

    /// Whether what has been gathered is to be written at this moment.
    fn look(&mut self, is_first: bool, is_full: bool, now: Instant) -> bool {
        let looked = now.saturating_since(self.last_look);
        // As many as came in the time that may pass, and no more than twice as many as before.
        self.stride = match looked {
            short if short < LOOK_PACE => (2 * self.stride).clamp(1, MOST_STRIDE),
            long if long > 2 * LOOK_PACE => self.stride / 4,
            _ => self.stride,
        };
        (self.unlooked, self.last_look) = (0, now);
        let since = now.saturating_since(self.last_write);
        if is_first {
            let earned = since.as_micros() / PACE.max(self.effort).as_micros();
            let credit = u128::from(self.credit).saturating_add(earned).min(u128::from(MOST_CREDIT));
            self.credit = u32::try_from(credit).unwrap_or(MOST_CREDIT);
        }
        let goes_at_once = is_first && self.credit > 0;
        if !is_full && !goes_at_once && since < GATHER_TIME.max(self.effort) {
            self.is_waiting = true;
            return false;
        }
        self.credit = self.credit.saturating_sub(1);
        (self.last_write, self.gathered) = (now, 0);
        true
    }

    /// What waited has been written, from `begun` on.
    pub(super) fn note_written(&mut self, begun: Instant, now: Instant) {
        self.gathered = 0;
        let effort = now.saturating_since(begun);
        let cost = effort.as_micros() / CREDIT_TIME.as_micros();
        self.credit = self.credit.saturating_sub(u32::try_from(cost).unwrap_or(u32::MAX));
        self.effort = effort.min(MOST_EFFORT);
        self.last_write = now;
    }

    /// How long writing to all took when it was last done, up to a millisecond.
    pub(super) fn effort(&self) -> Duration {
        self.effort
    }

    /// Something was left to be written later. True: the driver does not know and has to be woken.
    pub(super) fn call_for_attention(&mut self) -> bool {
        !core::mem::replace(&mut self.is_attended, true)
    }

    /// A flood is on, and those who publish do the writing.
    pub(super) fn is_on(&self) -> bool {
        self.is_attended
    }

    /// More waits than one publisher could write: the driver goes on with it, whatever else comes.
    pub(super) fn leave_to_driver(&mut self) {
        self.is_attended = false;
    }

    /// The driver is about to sleep: when it has to look again because of a flood. It has written what there was.
    pub(super) fn pay_attention(&mut self) -> Option<Duration> {
        self.is_attended &= core::mem::take(&mut self.is_waiting);
        self.is_attended.then_some(ATTENTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> impl FnOnce() -> Instant {
        move || Instant::from_micros(micros)
    }

    #[test]
    fn who_publishes_now_and_then_always_writes_at_once() {
        let mut flood = Flood::default();
        for n in 1..1_000 {
            assert!(flood.gather(100, at(n * 20)));
        }
    }

    #[test]
    fn a_few_at_once_are_written_at_once_and_the_next_ones_together() {
        let mut flood = Flood::default();
        let written = (0..100).filter(|n| flood.gather(100, at(1_000 + n / 10))).count();
        assert_eq!(written, 8);
        assert!(flood.call_for_attention(), "the driver is woken");
        assert!(!flood.call_for_attention(), "once");
        assert!(flood.is_on());
        // The clock is looked at from time to time, and what has been gathered for long enough is written.
        let written = (0..128).filter(|_| flood.gather(100, at(1_070))).count();
        assert!(
            (1..=4).contains(&written),
            "{written}: one for the time that has passed, and what that has earned"
        );
    }

    #[test]
    fn who_publishes_and_waits_for_what_comes_of_it_is_never_gathered() {
        let mut flood = Flood::default();
        let mut now = 1_000;
        for _ in 0..10_000 {
            now += 8;
            assert!(flood.gather(100, at(now)));
            flood.note_written(Instant::from_micros(now), Instant::from_micros(now + 3));
        }
    }

    #[test]
    fn the_clock_is_looked_at_rarely_in_a_flood_and_often_when_it_ebbs() {
        let looks = |flood: &mut Flood, publications: u64, micros: u64| {
            let mut looks = 0;
            for n in 0..publications {
                flood.gather(10, || {
                    looks += 1;
                    Instant::from_micros(10_000 + n * micros / 100)
                });
                flood.call_for_attention();
            }
            looks
        };
        let mut flood = Flood::default();
        assert!(looks(&mut flood, 6_400, 6) < 200, "ten to a microsecond");
        let mut flood = Flood::default();
        assert!(looks(&mut flood, 1_000, 500) > 300, "one in five microseconds");
    }

    #[test]
    fn the_dearer_a_write_is_the_fewer_come_in_quick_succession() {
        for (micros, expected) in [(5, 8), (90, 8), (250, 3), (1_500, 1), (40_000, 1)] {
            let mut flood = Flood::default();
            let mut now = 100_000;
            let mut written = 0;
            for _ in 0..100 {
                if flood.gather(100, at(now)) {
                    written += 1;
                    flood.note_written(Instant::from_micros(now), Instant::from_micros(now + micros));
                    now += micros;
                }
            }
            assert_eq!(written, expected, "of {micros} us each");
        }
    }

    #[test]
    fn a_full_chunk_is_written_whatever_the_clock_says() {
        let mut flood = Flood::default();
        (0..100).for_each(|_| {
            flood.gather(1, at(1_000));
        });
        flood.call_for_attention();
        let written = (0..12).filter(|_| flood.gather(16 * 1024, at(1_000))).count();
        assert_eq!(written, 4, "three of them each time, as four do not fit");
    }

    #[test]
    fn what_is_gathered_is_a_chunk_and_not_a_little_more() {
        for bytes in [0, 16, 268, 1_040, 16_400, 40_000, 1_000_000] {
            let mut flood = Flood::default();
            (0..100).for_each(|_| {
                flood.gather(bytes, at(1_000));
            });
            flood.call_for_attention();
            flood.note_written(Instant::from_micros(1_000), Instant::from_micros(1_000));
            let gathered = 1 + (0..).take_while(|_| !flood.gather(bytes, at(1_000))).count();
            assert!(
                gathered == 1 || gathered * (bytes + FRAME_BYTES) <= GATHER_BYTES,
                "{gathered} of {bytes}"
            );
            assert!((gathered + 1) * (bytes + FRAME_BYTES) > GATHER_BYTES, "{gathered} of {bytes}");
        }
    }

    #[test]
    fn who_has_many_to_write_to_gathers_as_long_as_writing_takes() {
        let mut flood = Flood::default();
        let mut now = 1_000;
        let mut written = 0;
        // Forty microseconds for eight subscribers, five for the next publication.
        for _ in 0..1_000 {
            now += 5;
            if flood.gather(100, at(now)) {
                flood.note_written(Instant::from_micros(now), Instant::from_micros(now + 40));
                now += 40;
                written += 1;
            } else {
                flood.call_for_attention();
            }
        }
        assert!(
            (80..=150).contains(&written),
            "{written} of 1 000: as much time for gathering as for writing"
        );
        // A lone one, later, goes out at once.
        assert!(flood.gather(100, at(now + 500)));
    }

    #[test]
    fn what_one_publisher_could_not_write_is_the_drivers_whatever_the_flood_says() {
        let mut flood = Flood::default();
        (0..100).for_each(|_| {
            flood.gather(1, at(1_000));
        });
        flood.call_for_attention();
        assert!(flood.is_on());
        flood.leave_to_driver();
        assert!(!flood.is_on(), "the driver goes on with what waits");
        assert!(
            !flood.gather(1, at(1_001)) && flood.call_for_attention(),
            "and is woken for what comes then"
        );
    }

    #[test]
    fn attention_ends_with_the_flood() {
        let mut flood = Flood::default();
        (0..100).for_each(|_| {
            flood.gather(1, at(1_000));
        });
        flood.call_for_attention();
        assert_eq!(flood.pay_attention(), Some(ATTENTION));
        assert_eq!(flood.pay_attention(), None, "nothing was gathered meanwhile");
        assert!(!flood.is_on());
    }
}
