//! Calls under way: where their outcomes wait for whoever waits for them.

use core::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;
use std::vec::Vec;

use serde::de::DeserializeOwned;

use super::client::CallHandler;
use super::error::into_result;
use super::{codec, CallError};
use crate::net::{Instant, Numbered, Port};
use crate::pattern::{Machine, Outcome};

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

/// Where one call's outcome is put.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<SlotState>,
    /// One of the two that share it, who puts and who takes, has done with it.
    is_left: AtomicBool,
}

#[derive(Debug, Default)]
struct SlotState {
    outcome: Option<Outcome>,
    waiter: Option<Thread>,
}

impl Slot {
    pub(crate) fn put(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.outcome = Some(outcome);
        if let Some(waiter) = state.waiter.take() {
            drop(state);
            waiter.unpark();
        }
    }

    fn take(&self) -> Option<Outcome> {
        let mut state = self.lock();
        let outcome = state.outcome.take();
        if outcome.is_none() {
            state.waiter = Some(thread::current());
        }
        outcome
    }

    fn is_full(&self) -> bool {
        self.lock().outcome.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls of one client that have no outcome yet, by id.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<SlotTable>);

#[derive(Debug, Default)]
struct SlotTable {
    waiting: Numbered<u64, Arc<Slot>>,
    /// Empty ones, to be used again.
    spare: Vec<Arc<Slot>>,
}

/// Empty slots that are kept.
const MOST_SPARE: usize = 1_024;

impl Slots {
    /// An empty slot.
    pub(crate) fn take(&self) -> Arc<Slot> {
        self.lock().spare.pop().unwrap_or_default()
    }

    pub(crate) fn insert(&self, id: u64, slot: Arc<Slot>) {
        self.lock().waiting.insert(id, slot);
    }

    pub(crate) fn put(&self, id: u64, outcome: Outcome) {
        let slot = self.lock().waiting.remove(&id);
        if let Some(slot) = slot {
            slot.put(outcome);
            self.leave(slot);
        }
    }

    /// One of the two that share a slot has done with it; the second one leaves it for another call.
    fn leave(&self, slot: Arc<Slot>) {
        if !slot.is_left.swap(true, Ordering::AcqRel) {
            return;
        }
        slot.is_left.store(false, Ordering::Relaxed);
        *slot.lock() = SlotState::default();
        let mut table = self.lock();
        if table.spare.len() < MOST_SPARE {
            table.spare.push(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotTable> {
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
    pub fn wait(self) -> Result<R, CallError> {
        let bytes = self.raw.wait()?;
        codec::decode(&bytes).map_err(CallError::BadResult)
    }

    /// The outcome is there: [`PendingCall::wait`] will not block.
    pub fn is_ready(&self) -> bool {
        self.raw.slot.is_full()
    }
}

impl<R> core::fmt::Debug for PendingCall<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PendingCall").field("deadline", &self.raw.deadline).finish()
    }
}

/// A call under way, its result as bytes.
pub(crate) struct RawCall {
    pub(crate) port: Arc<Port<CallHandler>>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) deadline: Instant,
    is_waited_for: bool,
}

impl Drop for RawCall {
    fn drop(&mut self) {
        if !self.is_waited_for {
            // It may have been one of a burst, and not be written yet.
            self.port.flush();
        }
        self.port.handler.slots.leave(Arc::clone(&self.slot));
    }
}

impl RawCall {
    pub(crate) fn new(port: Arc<Port<CallHandler>>, slot: Arc<Slot>, deadline: Instant) -> Self {
        RawCall { port, slot, deadline, is_waited_for: false }
    }

    pub(crate) fn wait(mut self) -> Result<Vec<u8>, CallError> {
        self.is_waited_for = true;
        if let Some(outcome) = self.slot.take() {
            return into_result(outcome);
        }
        // It may have been one of a burst.
        self.port.flush();
        loop {
            if let Some(outcome) = self.port.wait_for(self.deadline, || self.slot.take()) {
                return into_result(outcome);
            }
            // The caller keeps its own deadline: the driver may be busy elsewhere.
            self.port.command(|requester, now| requester.handle_timeout(now));
            if !self.slot.is_full() {
                // Its outcome is on its way through another thread's hands.
                thread::park_timeout(Duration::from_micros(100));
            }
        }
    }
}
