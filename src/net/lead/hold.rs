//! What a waiting thread has of a driver, given up in good order whatever happens: the driver itself, or a place in the list.

use std::sync::MutexGuard;
use std::thread;

use super::{Driver, Lead, Leader, Shared};
use crate::time::Instant;

/// A waiter's or attendant's hold on the driver: given up in good order also if a turn panics.
pub(super) struct Led<'a> {
    pub(super) lead: &'a Lead,
    pub(super) shared: &'a Shared,
    pub(super) turn: u64,
    /// When it was taken.
    pub(super) begun: Instant,
    /// Others are to have the core when it is given back.
    pub(super) owes: bool,
    /// There until the end.
    pub(super) guard: Option<MutexGuard<'a, Driver>>,
}

impl Led<'_> {
    pub(super) fn driver(&mut self) -> &mut Driver {
        self.guard.as_mut().expect("it is let go at the end only")
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        // It was busy until then at least.
        let last = self.driver().looked_at().max(self.begun);
        self.guard = None;
        self.lead.leave(self.turn, self.shared, last);
    }
}

/// A waiting thread's place in the list.
pub(super) struct Place<'a> {
    pub(super) lead: &'a Lead,
    pub(super) shared: &'a Shared,
    pub(super) role: Leader,
    pub(super) listed: bool,
}

impl Place<'_> {
    /// Takes a place in the list. False if it has one already; then it was looked at since.
    pub(super) fn enlist(&mut self) -> bool {
        let me = thread::current();
        let mut state = self.lead.lock();
        if self.listed && state.has_listed(me.id()) {
            return false;
        }
        match self.role {
            Leader::Attendant => state.attendant = Some(me),
            _ => state.waiters.push_back(me),
        }
        self.listed = true;
        // Neither of them waits for anything of its own.
        let ask = matches!(state.leader, Leader::Caretaker | Leader::Attendant);
        drop(state);
        if ask {
            self.shared.wake_for_certain();
        }
        true
    }

    /// Leaves the list. True if it was chosen meanwhile.
    pub(super) fn delist(&mut self) -> bool {
        if !core::mem::take(&mut self.listed) {
            return false;
        }
        let me = thread::current().id();
        let mut state = self.lead.lock();
        let was_chosen = !state.has_listed(me);
        state.waiters.retain(|waiter| waiter.id() != me);
        state.attendant.take_if(|attendant| attendant.id() == me);
        was_chosen
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.delist() {
            // Chosen, and not in need of it any more: the next one is.
            let state = self.lead.lock();
            self.lead.pass_on(state);
        }
    }
}
