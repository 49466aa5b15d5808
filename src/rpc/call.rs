//! Calls under way: where their outcomes wait for whoever waits for them.

use core::marker::PhantomData;
use std::collections::hash_map::{Entry, OccupiedEntry};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::client::CallHandler;
use super::error::into_result;
use super::{codec, CallError};
use crate::net::{Instant, Numbered, Port};
use crate::pattern::{Done, Machine, Outcome, Received};

/// How one call is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) idempotent: bool,
    pub(crate) fail_fast: bool,
}

impl CallOptions {
    /// The client's default timeout, at most once, waiting for a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives up after so long. The deadline travels with the call: an expired one is not started.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The function may run more than once: after a loss the call is sent again until its deadline, instead of
    /// ending as unknown.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Refuses at once while there is no connection, instead of waiting for one.
    pub fn fail_fast(mut self) -> Self {
        self.fail_fast = true;
        self
    }
}

/// Where the outcomes of one client's calls wait for whoever waits for them.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By the calls' ids: those that have an outcome or a waiter.
    slots: Numbered<u64, Slot>,
    /// Calls whose outcomes are of no interest when they come.
    forgotten: Numbered<u64, ()>,
}

#[derive(Debug)]
enum Slot {
    Full(Outcome),
    Awaited(Thread),
}

impl Slot {
    fn take(slot: OccupiedEntry<'_, u64, Slot>) -> Option<Outcome> {
        if let Slot::Awaited(_) = slot.get() {
            return None;
        }
        match slot.remove() {
            Slot::Full(outcome) => Some(outcome),
            Slot::Awaited(_) => None,
        }
    }
}

impl Slots {
    /// Puts outcomes to where they are waited for; what nobody waits for any more is dropped. Each call has one.
    pub(crate) fn put(&self, outcomes: impl Iterator<Item = Done>) {
        let mut table = self.lock();
        for Done { id, outcome } in outcomes {
            if !table.forgotten.is_empty() && table.forgotten.remove(&id).is_some() {
                continue;
            }
            if let Some(Slot::Awaited(waiter)) = table.slots.insert(id, Slot::Full(outcome)) {
                // Whoever wakes up finds no lock held.
                drop(table);
                waiter.unpark();
                table = self.lock();
            }
        }
    }

    /// Takes an outcome. If it is not there yet, this thread is unparked when it is.
    fn take(&self, id: u64) -> Option<Outcome> {
        match self.lock().slots.entry(id) {
            Entry::Occupied(slot) => Slot::take(slot),
            Entry::Vacant(slot) => {
                slot.insert(Slot::Awaited(thread::current()));
                None
            }
        }
    }

    /// Takes an outcome if it is there.
    fn take_now(&self, id: u64) -> Option<Outcome> {
        match self.lock().slots.entry(id) {
            Entry::Occupied(slot) => Slot::take(slot),
            Entry::Vacant(_) => None,
        }
    }

    /// The outcome of this call is of no interest. It was not taken.
    fn forget(&self, id: u64) {
        let mut table = self.lock();
        let slot = table.slots.remove(&id);
        if !matches!(slot, Some(Slot::Full(_))) {
            table.forgotten.insert(id, ());
        }
        drop(table);
        drop(slot);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was begun and not waited for yet. Dropping it does not take it back: it runs, and its outcome goes
/// nowhere.
#[must_use = "the outcome of the call is in here"]
pub struct PendingCall<R> {
    raw: RawCall,
    types: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> PendingCall<R> {
    pub(crate) fn new(raw: RawCall) -> Self {
        PendingCall { raw, types: PhantomData }
    }

    /// Waits for the outcome; it comes by the call's deadline at the latest.
    ///
    /// # Errors
    /// How the call ended if not with a value.
    pub fn wait(mut self) -> Result<R, CallError> {
        let bytes = self.raw.wait()?;
        let result = codec::decode(&bytes).map_err(CallError::BadResult);
        let port = &self.raw.port;
        if let Some(left) = codec::keep(bytes.into_parts().0, port.handler.most_kept) {
            port.command_quietly(|requester| requester.give_back(left.into()));
        }
        result
    }

    /// The outcome is there: [`PendingCall::wait`] will not block.
    pub fn is_ready(&self) -> bool {
        self.raw.is_ready()
    }
}

impl<R> core::fmt::Debug for PendingCall<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PendingCall").field("deadline", &self.raw.deadline).finish()
    }
}

/// A call under way, its result as bytes.
pub(crate) struct RawCall {
    port: Arc<Port<CallHandler>>,
    id: u64,
    deadline: Instant,
    /// Its outcome, once somebody has looked for it and it was there.
    outcome: OnceLock<Outcome>,
    /// It was waited for, and nothing is left to be done for it.
    is_over: bool,
}

impl Drop for RawCall {
    fn drop(&mut self) {
        if !self.is_over && self.outcome.get().is_none() {
            self.port.handler.slots.forget(self.id);
            // It may have been one of a burst, and not be written yet.
            self.port.flush();
        }
    }
}

impl RawCall {
    pub(crate) fn new(port: Arc<Port<CallHandler>>, id: u64, deadline: Instant) -> Self {
        RawCall { port, id, deadline, outcome: OnceLock::new(), is_over: false }
    }

    fn slots(&self) -> &Slots {
        &self.port.handler.slots
    }

    fn is_ready(&self) -> bool {
        if self.outcome.get().is_none() {
            if let Some(outcome) = self.slots().take_now(self.id) {
                // There is one for each call, and it is taken once.
                let _ = self.outcome.set(outcome);
            }
        }
        self.outcome.get().is_some()
    }

    /// Waits for its end, which is there once.
    pub(crate) fn wait(&mut self) -> Result<Received, CallError> {
        let outcome = self.outcome.take().or_else(|| self.slots().take(self.id));
        let outcome = outcome.unwrap_or_else(|| self.wait_for_it());
        self.is_over = true;
        into_result(outcome)
    }

    fn wait_for_it(&self) -> Outcome {
        // It may have been one of a burst.
        self.port.flush();
        loop {
            if let Some(outcome) = self.port.wait_for(self.deadline, || self.slots().take(self.id)) {
                return outcome;
            }
            // The caller keeps its own deadline: the driver may be busy elsewhere.
            self.port.command(|requester, now| requester.handle_timeout(now));
            if let Some(outcome) = self.slots().take(self.id) {
                return outcome;
            }
            // Its outcome is on its way through another thread's hands.
            thread::park_timeout(Duration::from_micros(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_under_way_may_be_looked_at_and_waited_for_by_any_thread() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<PendingCall<core::cell::Cell<u8>>>();
    }

    fn value(id: u64) -> Done {
        Done { id, outcome: Outcome::Value(id.to_le_bytes().to_vec().into()) }
    }

    #[test]
    fn an_outcome_is_taken_once_and_leaves_nothing_behind() {
        let slots = Slots::default();
        assert_eq!(slots.take(1), None);
        slots.forget(2);
        slots.put((1..=4).map(value));
        assert_eq!(slots.take_now(2), None);
        assert_eq!(slots.take_now(1), Some(value(1).outcome));
        // It comes before it is forgotten, and was waited for before.
        slots.forget(3);
        assert_eq!(slots.take(5), None);
        slots.forget(5);
        slots.put(core::iter::once(value(5)));
        assert_eq!(slots.take(4), Some(value(4).outcome));
        let table = slots.lock();
        assert!(table.slots.is_empty() && table.forgotten.is_empty(), "{table:?}");
    }

    #[test]
    fn all_who_wait_are_woken_by_the_outcomes_of_one_read() {
        let slots = Slots::default();
        thread::scope(|scope| {
            for id in 0..8 {
                let slots = &slots;
                scope.spawn(move || {
                    // Woken by nothing but its outcome, or not at all.
                    while slots.take(id).is_none() {
                        thread::park();
                    }
                });
            }
            while slots.lock().slots.len() < 8 {
                thread::yield_now();
            }
            slots.put((0..8).map(value));
        });
        assert!(slots.lock().slots.is_empty());
    }
}
