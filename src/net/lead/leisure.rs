//! When a driver's caretaker takes it: how long the driver has to have been nobody's, and how often to look.

use super::Leader;
use crate::time::Duration;

/// How long the driver may be nobody's before the caretaker takes it: the gap between two calls of a busy caller is
/// shorter, and nothing that only the caretaker sees is in such a hurry.
pub(super) const AWAY: Duration = Duration::from_micros(500);
/// The same where somebody is busy with what the driver has brought: to bring more would not help, only fill memory.
pub(super) const AWAY_ATTENDED: Duration = Duration::from_millis(10);
/// The caretaker of busy callers, who leave the driver and take it again all the time, looks so rarely.
const FAR: Duration = Duration::from_millis(4);
/// After so many looks at one and the same leader the caretaker stops looking, and is told.
const LOOKS: u32 = 8;

/// The caretaker's looks from one time that it had the driver to the next.
#[derive(Debug)]
pub(super) struct Leisure {
    /// Looks since the driver was last seen to have been taken.
    looks: u32,
    /// The time between two looks while somebody leads.
    pace: Duration,
    takeovers: u64,
    /// Something was left to be done: somebody has done it when so many turns are finished.
    left: Option<u64>,
}

/// What a look sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) leader: Leader,
    /// Turns that leaders have finished.
    pub(super) turns: u64,
    /// Since the driver was last freed.
    pub(super) since: Duration,
    pub(super) is_attended: bool,
    /// Something was left since the last look.
    pub(super) is_left: bool,
}

/// What the caretaker does after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Take,
    LookIn(Duration),
    /// It is told when there is something new to see.
    Sleep,
}

impl Leisure {
    pub(super) fn new(takeovers: u64) -> Self {
        Leisure { looks: 0, pace: AWAY, takeovers, left: None }
    }

    /// The next look is later than it may be when something is left by then.
    pub(super) fn is_far(&self, is_attended: bool) -> bool {
        self.pace > AWAY || is_attended
    }

    pub(super) fn look(&mut self, sight: &Sight) -> Next {
        if sight.is_left {
            // A turn that is under way may be past what was left.
            self.left = Some(sight.turns + 1 + u64::from(sight.leader != Leader::Nobody));
        }
        if self.left.is_some() {
            self.pace = AWAY;
        }
        let away = if sight.is_attended && self.left.is_none() { AWAY_ATTENDED } else { AWAY };
        match sight.leader {
            Leader::Nobody | Leader::Caretaker if sight.since >= away => Next::Take,
            Leader::Nobody | Leader::Caretaker => Next::LookIn(self.pace.max(away) - sight.since),
            Leader::Waiter | Leader::Caller | Leader::Attendant if self.looks < LOOKS => {
                Next::LookIn(self.pace)
            }
            Leader::Waiter | Leader::Caller | Leader::Attendant => Next::Sleep,
        }
    }

    /// Some time has passed since the last look, and so many have taken the driver and finished turns by now.
    pub(super) fn note_passed(&mut self, takeovers: u64, turns: u64) {
        let is_busy = takeovers != self.takeovers;
        self.pace = if is_busy { FAR.min(2 * self.pace) } else { AWAY };
        self.looks = if is_busy { 0 } else { self.looks + 1 };
        // Not whoever has led: he may have found what he wanted before his first turn.
        self.left = self.left.filter(|done| turns < *done);
        self.takeovers = takeovers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attended(turns: u64, since: Duration, is_left: bool) -> Sight {
        Sight { leader: Leader::Nobody, turns, since, is_attended: true, is_left }
    }

    #[test]
    fn the_caretaker_brings_no_more_while_somebody_is_busy_with_what_there_is() {
        let mut leisure = Leisure::new(0);
        assert!(leisure.is_far(true));
        assert_eq!(leisure.look(&attended(0, AWAY, false)), Next::LookIn(AWAY_ATTENDED - AWAY));
        leisure.note_passed(0, 0);
        assert_eq!(leisure.look(&attended(0, AWAY_ATTENDED, false)), Next::Take);
    }

    #[test]
    fn who_leads_without_a_turn_has_not_done_what_was_left() {
        let mut leisure = Leisure::new(0);
        assert_eq!(leisure.look(&attended(7, Duration::ZERO, true)), Next::LookIn(AWAY));
        leisure.note_passed(1, 7);
        assert_eq!(leisure.look(&attended(7, AWAY, false)), Next::Take);
        leisure.note_passed(2, 8);
        assert_eq!(leisure.look(&attended(8, AWAY, false)), Next::LookIn(AWAY_ATTENDED - AWAY));
    }

    #[test]
    fn a_turn_that_was_under_way_may_be_past_what_was_left() {
        for leader in [Leader::Waiter, Leader::Attendant] {
            let mut leisure = Leisure::new(0);
            let led = Sight { leader, ..attended(7, Duration::ZERO, true) };
            assert_eq!(leisure.look(&led), Next::LookIn(AWAY));
            leisure.note_passed(0, 8);
            assert_eq!(leisure.look(&attended(8, AWAY, false)), Next::Take);
            leisure.note_passed(0, 9);
            assert_eq!(leisure.look(&attended(9, AWAY, false)), Next::LookIn(AWAY_ATTENDED - AWAY));
        }
    }

    #[test]
    fn one_leader_is_looked_at_a_few_times_and_busy_ones_rarely() {
        let led = Sight { leader: Leader::Waiter, is_attended: false, ..attended(0, Duration::ZERO, false) };
        let mut leisure = Leisure::new(0);
        for _ in 0..LOOKS {
            assert_eq!(leisure.look(&led), Next::LookIn(AWAY));
            leisure.note_passed(0, 0);
        }
        assert_eq!(leisure.look(&led), Next::Sleep);
        for takeovers in 1..=LOOKS {
            leisure.note_passed(takeovers.into(), 0);
        }
        assert_eq!(leisure.look(&led), Next::LookIn(FAR));
        assert!(leisure.is_far(false));
    }
}
