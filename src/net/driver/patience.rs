//! Polling before sleeping: when it is worth it.

use crate::time::Duration;

/// Decides whether a turn polls for a while before it sleeps.
///
/// To wake a sleeping thread costs more than a short wait takes; to poll through a long wait costs a core. So it polls
/// only while its recent waits ended within the bound, and a failure is followed by more and more waits without a try.
/// Where others need the core, whoever polls loses it for a time slice at each yield, and whoever sleeps is woken at once:
/// there it does not poll at all.
#[derive(Debug)]
pub(super) struct Patience {
    bound: Duration,
    /// Waits in a row that did not end within the bound although it polled.
    misses: u32,
    /// Waits to be slept through before the next try.
    skip: u32,
    /// The last number of waits that were slept through between two tries.
    last_skip: u32,
    /// Successes in a row.
    hits: u32,
}

/// Failures in a row that are forgiven: a pre-empted peer is no sign of a slow one.
const FORGIVEN: u32 = 3;
const FEWEST_SKIPPED: u32 = 16;
/// After the core was lost to somebody, who will need it again.
const FEWEST_SKIPPED_FOR_OTHERS: u32 = 128;
/// So many successes in a row are needed for what was to be forgotten.
const CONVINCING: u32 = 32;
const MOST_SKIPPED: u32 = 1_024;

impl Patience {
    /// Polls for at most so long; zero: never.
    pub(super) fn new(bound: Duration) -> Self {
        Patience { bound, misses: FORGIVEN, skip: 0, last_skip: 0, hits: 0 }
    }

    /// How long the next wait is to be polled through at most, `None` if it is to be slept through.
    pub(super) fn next_wait(&mut self) -> Option<Duration> {
        if self.bound.is_zero() {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(self.bound)
    }

    /// Something came after so long a time of polling.
    pub(super) fn hit(&mut self, polled: Duration) {
        if polled > 2 * self.bound {
            // A try takes no time: somebody else had the core.
            self.misses = self.misses.max(FORGIVEN);
            self.last_skip = self.last_skip.max(FEWEST_SKIPPED_FOR_OTHERS / 2);
            return self.miss();
        }
        self.misses = 0;
        self.hits = self.hits.saturating_add(1);
        if self.hits >= CONVINCING {
            self.last_skip = 0;
        }
    }

    /// Nothing came: it slept after all.
    pub(super) fn miss(&mut self) {
        self.hits = 0;
        self.misses = self.misses.saturating_add(1);
        if self.misses > FORGIVEN {
            self.last_skip = (self.last_skip * 2).clamp(FEWEST_SKIPPED, MOST_SKIPPED);
            self.skip = self.last_skip;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_micros(50);

    /// Waits until it polls again.
    fn slept(patience: &mut Patience) -> u32 {
        (0..).find(|_| patience.next_wait().is_some()).expect("it tries again some time")
    }

    #[test]
    fn it_polls_while_that_pays_and_hardly_ever_while_it_does_not() {
        let mut patience = Patience::new(BOUND);
        assert_eq!(slept(&mut patience), 0, "the first wait is tried");
        patience.miss();
        let mut expected = 16;
        for _ in 0..10 {
            assert_eq!(slept(&mut patience), expected);
            patience.miss();
            expected = (expected * 2).min(1_024);
        }
        slept(&mut patience);
        (0..CONVINCING).for_each(|_| patience.hit(BOUND));
        for _ in 0..3 {
            assert_eq!(slept(&mut patience), 0, "a few misses are forgiven");
            patience.miss();
        }
        assert_eq!(slept(&mut patience), 0);
        patience.miss();
        assert_eq!(slept(&mut patience), 16, "and then it begins anew");
    }

    #[test]
    fn it_leaves_the_core_to_those_who_need_it() {
        let mut patience = Patience::new(BOUND);
        slept(&mut patience);
        (0..100).for_each(|_| patience.hit(BOUND));
        patience.hit(60 * BOUND);
        assert_eq!(slept(&mut patience), 128, "the core was lost for a time slice");
        (0..3).for_each(|_| patience.hit(BOUND));
        patience.hit(60 * BOUND);
        assert_eq!(slept(&mut patience), 256, "and again soon afterwards");
        (0..CONVINCING).for_each(|_| patience.hit(BOUND));
        patience.hit(60 * BOUND);
        assert_eq!(slept(&mut patience), 128, "a good while later it begins anew");
    }

    #[test]
    fn it_never_polls_when_switched_off() {
        let mut patience = Patience::new(Duration::ZERO);
        assert!((0..10_000).all(|_| patience.next_wait().is_none()));
    }
}
