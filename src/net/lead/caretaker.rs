//! The caretaker's part: when it has the driver, and when it is called.

use std::sync::atomic::Ordering;

use super::leisure::{Leisure, Next, Sight};
use super::{Clock, Lead, Leader, Shared, MOST_WAIT};
use crate::time::{Duration, Instant};

impl Lead {
    /// Has the caretaker come at once, whoever leads.
    pub(in super::super) fn call_caretaker(&self, shared: &Shared) {
        self.urgent.store(true, Ordering::SeqCst);
        let state = self.lock();
        drop(state);
        self.changed.notify_all();
        shared.wake_for_certain();
    }

    /// Waits until the driver is the caretaker's. It has come because it was called: then it does what it was called
    /// for.
    pub(in super::super) fn await_leisure(&self, clock: &Clock) {
        let mut state = self.lock();
        let mut leisure = Leisure::new(state.takeovers);
        while !self.urgent.load(Ordering::SeqCst) {
            let is_attended = self.is_attended.load(Ordering::SeqCst);
            // Said before it is asked what is left: whoever leaves something after that calls us back.
            self.is_far.store(leisure.is_far(is_attended), Ordering::SeqCst);
            let is_left = self.is_left.swap(false, Ordering::SeqCst);
            let (leader, turns, since) = (state.leader, self.turns(), self.since_freed(clock));
            let wait = match leisure.look(&Sight { leader, turns, since, is_attended, is_left }) {
                Next::Take => return,
                Next::LookIn(wait) => wait,
                Next::Sleep => MOST_WAIT,
            };
            state.caretaker_sleeps = wait == MOST_WAIT;
            state = match self.changed.wait_timeout(state, wait) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
            state.caretaker_sleeps = false;
            self.is_far.store(false, Ordering::SeqCst);
            leisure.note_passed(state.takeovers, self.turns());
        }
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    fn since_freed(&self, clock: &Clock) -> Duration {
        match self.freed_at.load(Ordering::SeqCst) {
            0 => Duration::MAX,
            at => clock.now().saturating_since(Instant::from_micros(at - 1)),
        }
    }

    /// The caretaker has the driver. `None`: somebody waits for it, and is to have it.
    pub(in super::super) fn begin_care(&self) -> Option<u64> {
        self.urgent.store(false, Ordering::SeqCst);
        let mut state = self.lock();
        if state.is_waited_for() {
            return None;
        }
        state.begin(Leader::Caretaker);
        self.is_free.store(false, Ordering::SeqCst);
        Some(state.takeovers)
    }

    /// The caretaker has given the driver back, for one turn or for longer.
    pub(in super::super) fn end_care(&self, turn: Option<u64>, clock: &Clock) {
        let mut state = self.lock();
        match turn {
            Some(turn) if state.takeovers != turn => return,
            Some(_) => {
                state.leader = Leader::Nobody;
                self.is_free.store(true, Ordering::SeqCst);
            }
            None => {}
        }
        if state.is_waited_for() {
            self.note_freed(clock.now());
            self.pass_on(state);
        }
    }
}
