//! Who turns a driver: a caretaker thread while nobody waits, and whoever waits while somebody does.
//!
//! ```text
//!              somebody waits                      it has what it waited for, others wait
//! caretaker -----------------------> a waiter ------------------------------------------> another waiter
//!     ^                                  |
//!     +----------------------------------+
//!        nobody has led for a while, or something comes that nobody waits for
//! ```
//!
//! A thread that waits for a reply could sleep until another one has read it; then each answer costs two wake-ups. So the
//! waiting thread takes the driver itself, and with it the reading for everybody: others find what is theirs, because
//! whatever a turn brings wakes the threads that it is for. A leader that has what it wanted hands the driver to exactly
//! one of those that still wait, and goes.
//!
//! An attendant is a thread that runs what the driver brings, and turns it for nothing in particular while it has nothing to
//! run. It makes way for whoever waits for something of his own, and has the driver again when nobody does.
//!
//! Nothing is forgotten at a hand-over: what has been announced and not been read to its end stands in the driver itself,
//! which reads it before it sleeps.

mod caretaker;
mod courtesy;
mod hold;
mod leisure;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread::{self, Thread, ThreadId};

use super::{Clock, Driver, Shared};
use crate::time::{Duration, Instant};
use courtesy::Courtesy;
use hold::{Led, Place};

/// The right to turn a driver, and those who wait for it.
#[derive(Default)]
pub(crate) struct Lead {
    /// Absent as long as nobody but its owner turns the driver, and for ever with those whose threads never wait.
    driver: OnceLock<Weak<Mutex<Driver>>>,
    state: Mutex<State>,
    /// Told when the caretaker is to look again before its time.
    changed: Condvar,
    /// The caretaker has to have the driver now.
    urgent: AtomicBool,
    /// Nobody turns the driver, or sleeps in it. Written under the lock.
    is_free: AtomicBool,
    /// When it was last freed, or promised to somebody: in microseconds and one more, 0 for never.
    freed_at: AtomicU64,
    /// The caretaker looks again after longer than it may be away when something was left to it. Set under the lock.
    is_far: AtomicBool,
    /// Something was left to it since it last looked.
    is_left: AtomicBool,
    /// Somebody runs what the driver brings, and comes back to it.
    is_attended: AtomicBool,
    /// Turns that leaders other than the caretaker have finished.
    turns: AtomicU64,
    /// What callers owe to those whose core they have.
    courtesy: Mutex<Courtesy>,
}

#[derive(Default)]
struct State {
    leader: Leader,
    /// The thread of a leading waiter or attendant.
    leading: Option<ThreadId>,
    /// Times that somebody has taken the driver. Who gives it back looks whether somebody else has it by then.
    takeovers: u64,
    /// It was left to a waiter, who has not taken it yet.
    is_promised: bool,
    /// Those who would take it if it were free, oldest first.
    waiters: VecDeque<Thread>,
    /// Would take it if it were free and none of those wanted it.
    attendant: Option<Thread>,
    /// The caretaker sleeps until it is told.
    caretaker_sleeps: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Leader {
    #[default]
    Nobody,
    Caretaker,
    /// Waits for something of its own.
    Waiter,
    /// Likewise, for the answer to a call.
    Caller,
    /// Waits for whatever comes.
    Attendant,
}

impl Lead {
    /// From here on whoever waits may turn the driver.
    pub(super) fn share(&self, driver: &Arc<Mutex<Driver>>) {
        let _ = self.driver.set(Arc::downgrade(driver));
    }

    /// Somebody waits here whenever there is nothing to do with what was brought; or does so no more.
    pub(crate) fn note_attended(&self, is_attended: bool) {
        self.is_attended.store(is_attended, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody does.
    #[cfg(test)]
    pub(crate) fn is_attended(&self) -> bool {
        self.is_attended.load(Ordering::SeqCst)
    }

    /// Waits until `look` finds something or the time is over. `look` first arranges that this thread is unparked when
    /// there may be something new to find, so that it can be sure of having missed nothing.
    pub(crate) fn wait<T>(
        &self,
        shared: &Shared,
        deadline: Instant,
        look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.wait_as(Leader::Waiter, shared, deadline, look)
    }

    /// The same for the answer to a call. One thread may have many on their way, and find some whenever it looks: it makes
    /// way for others now and then.
    pub(crate) fn wait_for_answer<T>(
        &self,
        shared: &Shared,
        deadline: Instant,
        look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.wait_as(Leader::Caller, shared, deadline, look)
    }

    /// The same without an end, for the one thread that runs what the driver brings: it leaves the driver to whoever waits
    /// for something of his own.
    pub(crate) fn attend<T>(&self, shared: &Shared, look: impl FnMut() -> Option<T>) -> Option<T> {
        self.wait_as(Leader::Attendant, shared, Instant::NEVER, look)
    }

    fn wait_as<T>(
        &self,
        role: Leader,
        shared: &Shared,
        deadline: Instant,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut place = Place { lead: self, shared, role, listed: false };
        loop {
            // From here on this thread is told of what comes.
            if let Some(found) = look() {
                return Some(found);
            }
            let now = shared.clock.now();
            let left = deadline.saturating_since(now);
            let driver = self.driver.get().and_then(Weak::upgrade);
            // Where the caretaker is needed, nobody takes the driver before it.
            if let Some(driver) =
                driver.as_ref().filter(|_| !self.urgent.load(Ordering::SeqCst) && self.is_for(role))
            {
                if let Some(guard) = try_lock(driver) {
                    place.delist();
                    let turn = self.begin(role);
                    let mut led =
                        Led { lead: self, shared, turn, begun: now, owes: false, guard: Some(guard) };
                    let found = self.lead(&mut led, role, deadline, &mut look);
                    let owes = led.owes;
                    drop(led);
                    if owes {
                        self.make_way(&shared.clock);
                    }
                    if found.is_some() || left.is_zero() {
                        return found;
                    }
                    continue;
                }
            }
            if left.is_zero() {
                return None;
            }
            if driver.is_some() && place.enlist() {
                // It may have become free meanwhile; else whoever leaves it finds us.
                continue;
            }
            // Nobody asleep keeps a driver alive whose thread has ended.
            drop(driver);
            thread::park_timeout(left.min(MOST_WAIT));
        }
    }

    /// Whether somebody of this role may take the driver: an attendant does not before those who wait.
    fn is_for(&self, role: Leader) -> bool {
        if role != Leader::Attendant {
            return true;
        }
        let state = self.lock();
        !state.is_promised && state.waiters.is_empty()
    }

    /// Turns the driver until `look` finds something, the time is over, or somebody needs it before this one.
    ///
    /// It looks before the first turn: what another leader brought after the last look, and before it left, no turn brings
    /// again. What comes once this thread leads comes through it, or rouses it.
    fn lead<T>(
        &self,
        led: &mut Led<'_>,
        role: Leader,
        deadline: Instant,
        look: &mut impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut now = Some(led.begun);
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            if !self.is_for(role) {
                return None;
            }
            let now = now.take().unwrap_or_else(|| led.shared.clock.now());
            let left = deadline.saturating_since(now);
            let wait = Some(left).filter(|_| deadline != Instant::NEVER);
            if led.driver().turn_at(now, wait).is_err() {
                // The caretaker meets the same, says so, and ends.
                self.urgent.store(true, Ordering::SeqCst);
                return None;
            }
            self.turns.fetch_add(1, Ordering::SeqCst);
            if role == Leader::Caller {
                let woken_at = led.driver().woken_at();
                led.owes = self.courtesy().is_owed(thread::current().id(), now, woken_at);
            }
            if left.is_zero() || led.owes {
                // There is no time for another turn now, but this one may have brought it.
                return look();
            }
            if self.urgent.load(Ordering::SeqCst) {
                return None;
            }
        }
    }

    fn courtesy(&self) -> MutexGuard<'_, Courtesy> {
        self.courtesy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others have the core, once all that the driver had brought is with those whom it is for, and the driver with
    /// whoever wants it.
    fn make_way(&self, clock: &Clock) {
        debug_assert_ne!(self.lock().leading, Some(thread::current().id()), "others may need the driver");
        let left = clock.now();
        thread::yield_now();
        self.courtesy().note_paid(left, clock.now());
    }

    /// Whether this thread, while it waits, turns the driver.
    #[cfg(test)]
    pub(crate) fn is_led_by(&self, thread: &Thread) -> bool {
        self.lock().leading == Some(thread.id())
    }

    fn begin(&self, leader: Leader) -> u64 {
        let mut state = self.lock();
        state.begin(leader);
        self.is_free.store(false, Ordering::SeqCst);
        state.takeovers
    }

    /// The driver is free, unless somebody has taken it already: whoever waits first takes it, or the caretaker, at its
    /// leisure.
    fn leave(&self, turn: u64, shared: &Shared, now: Instant) {
        self.note_freed(now);
        let mut state = self.lock();
        if state.takeovers != turn {
            return;
        }
        (state.leader, state.leading) = (Leader::Nobody, None);
        self.is_free.store(true, Ordering::SeqCst);
        if !state.is_waited_for() && shared.is_called() {
            // Something has come since the last turn looked.
            self.urgent.store(true, Ordering::SeqCst);
        }
        self.pass_on(state);
    }

    /// Has a waiting thread look again, for something that no turn brings.
    pub(crate) fn rouse(&self, thread: &Thread, shared: &Shared) {
        if thread.id() == thread::current().id() {
            // In the middle of its own turn, after which it looks.
            return;
        }
        if self.lock().leading == Some(thread.id()) {
            return shared.wake_for_certain();
        }
        thread.unpark();
    }

    fn note_freed(&self, now: Instant) {
        self.freed_at.store(now.as_micros().saturating_add(1), Ordering::SeqCst);
    }

    /// Whether a caller may go on without having written: it will write itself, a moment later, or when it waits; if it
    /// does not, the caretaker comes soon. False: whoever has the driver is to be told.
    pub(super) fn is_left_to_callers(&self) -> bool {
        self.driver.get().is_some() && self.is_free.load(Ordering::SeqCst)
    }

    /// Something was left to be written by whoever turns the driver next: if nobody does, the caretaker, before long.
    pub(super) fn come_before_long(&self) {
        if !self.is_left.load(Ordering::SeqCst) {
            self.is_left.store(true, Ordering::SeqCst);
        }
        if self.is_far.load(Ordering::SeqCst) && self.is_far.swap(false, Ordering::SeqCst) {
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    /// Sees to it that somebody turns the driver soon, if nobody does. Whoever does is woken by other means.
    pub(super) fn see_to_it(&self) {
        if self.is_free.load(Ordering::SeqCst) && !self.urgent.swap(true, Ordering::SeqCst) {
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    fn pass_on(&self, mut state: MutexGuard<'_, State>) {
        if state.leader != Leader::Nobody {
            return;
        }
        let next = state.waiters.pop_front();
        state.is_promised = next.is_some();
        let next = next.or_else(|| state.attendant.take());
        let tell = self.urgent.load(Ordering::SeqCst) || (next.is_none() && state.caretaker_sleeps);
        drop(state);
        if let Some(next) = next {
            next.unpark();
        }
        if tell {
            self.changed.notify_all();
        }
    }
}

impl State {
    fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty() || self.attendant.is_some()
    }

    fn has_listed(&self, thread: ThreadId) -> bool {
        self.waiters.iter().chain(&self.attendant).any(|listed| listed.id() == thread)
    }

    fn begin(&mut self, leader: Leader) {
        self.leader = leader;
        self.leading = (leader != Leader::Caretaker).then(|| thread::current().id());
        self.takeovers += 1;
        self.is_promised = false;
    }
}

/// The driver, for whoever waits until it is free.
pub(super) fn lock(driver: &Mutex<Driver>) -> MutexGuard<'_, Driver> {
    driver.lock().unwrap_or_else(|poisoned| {
        driver.clear_poison();
        recovered(poisoned.into_inner())
    })
}

/// There was a panic in the middle of a turn. The machines are judged by their own locks; what was announced and not
/// read may be forgotten, so everything is looked at.
fn recovered(mut driver: MutexGuard<'_, Driver>) -> MutexGuard<'_, Driver> {
    log::warn!("driver-poisoned: a panic in the middle of a turn");
    driver.look_at_everything();
    driver
}

fn try_lock(driver: &Mutex<Driver>) -> Option<MutexGuard<'_, Driver>> {
    match driver.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Poisoned(poisoned)) => {
            driver.clear_poison();
            Some(recovered(poisoned.into_inner()))
        }
    }
}

/// Nobody sleeps longer than this without looking at the clock again.
const MOST_WAIT: Duration = Duration::from_secs(3_600);
