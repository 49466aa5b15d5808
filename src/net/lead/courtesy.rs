//! Making way: when a thread that always finds something lets others have its core.

use std::thread::ThreadId;

use crate::time::{Duration, Instant};

/// Decides when a caller that never sleeps yields its core once.
///
/// A thread with many calls under way finds more answers each time that it looks. So it neither polls nor sleeps, and whoever
/// shares its core waits until the kernel's scheduler takes the core from it: up to several milliseconds, while its own answer
/// would be there in 30 us. Where nobody else is to run, a yield costs a system call. Where somebody keeps the core for
/// long, it is kept as long afterwards before the next yield, so that whoever makes way still has half of it.
///
/// Nobody but callers makes way. A thread that turns the driver for everybody, as a server's does, works for those it would
/// make way for: with both sides on one core that made their calls slower. And who reads a flood of publications beside its
/// publisher, on one core, reads less at a time.
#[derive(Debug)]
pub(super) struct Courtesy {
    /// The caller who has turned the driver last. Those that take turns have slept in between.
    caller: Option<ThreadId>,
    /// Before this it owes nothing.
    until: Instant,
    /// A look that found something at once takes less.
    look: Duration,
}

impl Default for Courtesy {
    fn default() -> Self {
        Courtesy { caller: None, until: Instant::ZERO, look: LOOK }
    }
}

/// A caller has its core for so long: what the slowest of its neighbours' calls take longer, and a few looks for itself.
const PACE: Duration = Duration::from_micros(100);
/// A look that found something at once takes less. After more the thread has slept, or others have had the core already.
const LOOK: Duration = Duration::from_micros(10);

impl Courtesy {
    /// A turn of a caller's has ended, and its wait took so long. Whether others are owed the core now.
    pub(super) fn is_owed(&mut self, caller: ThreadId, begun: Instant, ended: Instant) -> bool {
        let has_slept = ended.saturating_since(begun) >= self.look;
        if has_slept || self.caller != Some(caller) {
            (self.caller, self.until) = (Some(caller), ended + PACE);
        }
        ended >= self.until
    }

    /// They had it for so long.
    pub(super) fn note_paid(&mut self, left: Instant, back: Instant) {
        self.until = back + PACE.max(back.saturating_since(left));
    }

    /// This thread is to make way as soon as it finds something, however long that takes.
    #[cfg(test)]
    pub(super) fn owed_by(caller: ThreadId) -> Self {
        Courtesy { caller: Some(caller), until: Instant::ZERO, look: Duration::MAX }
    }

    #[cfg(test)]
    pub(super) fn is_owed_by(&self, caller: ThreadId) -> bool {
        self.caller == Some(caller) && self.until == Instant::ZERO
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::vec::Vec;

    use super::*;

    /// A driver's turns on a virtual clock.
    #[derive(Default)]
    struct Turns {
        courtesy: Courtesy,
        micros: u64,
        /// For how long the core is somebody else's after a yield.
        away: u64,
        /// When it was yielded.
        yields: Vec<u64>,
    }

    impl Turns {
        /// A wait of so many microseconds, and then work until 25 have passed since it began.
        fn wait(&mut self, caller: ThreadId, micros: u64) {
            let begun = self.micros;
            let ended = begun + micros;
            self.micros = begun + 25;
            if self.courtesy.is_owed(caller, Instant::from_micros(begun), Instant::from_micros(ended)) {
                self.yields.push(ended);
                let left = Instant::from_micros(ended);
                self.courtesy.note_paid(left, Instant::from_micros(ended + self.away));
                self.micros += self.away;
            }
        }

        /// Finds something at once each time, until then.
        fn find_at_once_until(&mut self, caller: ThreadId, until: u64) {
            while self.micros < until {
                self.wait(caller, 1);
            }
        }
    }

    fn me() -> ThreadId {
        thread::current().id()
    }

    #[test]
    fn who_always_finds_something_makes_way_now_and_then() {
        let mut turns = Turns::default();
        turns.find_at_once_until(me(), 350);
        assert_eq!(turns.yields, [101, 201, 301]);
    }

    #[test]
    fn who_has_slept_owes_nothing() {
        let mut turns = Turns::default();
        while turns.micros < 100_000 {
            (0..3).for_each(|_| turns.wait(me(), 1));
            turns.wait(me(), 20);
        }
        assert_eq!(turns.yields, [0_u64; 0]);
    }

    #[test]
    fn who_lost_the_core_to_somebody_keeps_it_as_long() {
        let mut turns = Turns { away: 3_000, ..Turns::default() };
        turns.find_at_once_until(me(), 13_000);
        assert_eq!(turns.yields, [101, 6_101, 12_101]);
    }

    #[test]
    fn callers_that_take_turns_owe_nothing() {
        let mut turns = Turns::default();
        let other = thread::spawn(|| thread::current().id()).join().expect("it says who it is");
        while turns.micros < 100_000 {
            turns.wait(me(), 1);
            turns.wait(other, 1);
        }
        assert_eq!(turns.yields, [0_u64; 0]);
    }
}
