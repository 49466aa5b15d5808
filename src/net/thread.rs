//! A driver on a thread of its own.

use std::io;
use std::string::String;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use super::{lead, Driver, Shared};
use crate::time::{Duration, Instant};

/// A driver on a thread of its own.
///
/// It is never joined: after [`DriverThread::finish`] it sees its closing connections off by itself, which takes it at
/// most as long as they may linger, and ends.
pub(crate) struct DriverThread {
    shared: Arc<Shared>,
    control: Arc<Control>,
    id: ThreadId,
}

#[derive(Default)]
struct Control {
    stop_listening: AtomicBool,
    finish: AtomicBool,
    /// The listeners are closed, or the thread has ended.
    deaf: Mutex<bool>,
    changed: Condvar,
}

impl Control {
    /// Does what was said since the last time. `last`: when the thread ends at the latest.
    fn heed(&self, driver: &mut Driver, shared: &Shared, last: &mut Instant) {
        if self.stop_listening.swap(false, Ordering::SeqCst) {
            driver.stop_listening();
            self.go_deaf();
        }
        if self.finish.load(Ordering::SeqCst) {
            *last = (*last).min(shared.clock.now() + LAST_WAIT);
        }
    }

    fn go_deaf(&self) {
        *self.deaf.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// Inline functions run on it, so it is not as small as it could be.
const STACK_BYTES: usize = 512 * 1024;
/// A driver that was told to finish waits no longer than this for its machines to let go, whatever `linger` says.
const LAST_WAIT: Duration = Duration::from_secs(60);

impl DriverThread {
    /// Starts the thread. `waiters_lead`: whoever waits for something that the driver brings may turn it meanwhile; the
    /// thread is its caretaker then.
    pub(crate) fn start(name: &str, driver: Driver, waiters_lead: bool) -> io::Result<Self> {
        let shared = Arc::clone(driver.shared());
        let control = Arc::new(Control::default());
        let theirs = (Arc::clone(&shared), Arc::clone(&control));
        let builder = thread::Builder::new().name(String::from(name)).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            let (shared, control) = theirs;
            let driver = Arc::new(Mutex::new(driver));
            if waiters_lead {
                shared.lead.share(&driver);
            }
            take_care(&driver, &shared, &control);
            drop(driver);
            control.go_deaf();
        })?;
        Ok(DriverThread { shared, control, id: thread.thread().id() })
    }

    /// Closes the listeners, and returns when they are closed.
    pub(crate) fn stop_listening(&self, timeout: Duration) {
        self.control.stop_listening.store(true, Ordering::SeqCst);
        self.shared.lead.call_caretaker(&self.shared);
        if self.is_current() {
            return;
        }
        let deaf = self.control.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.control.changed.wait_timeout_while(deaf, timeout, |deaf| !*deaf);
        drop(waited);
    }

    /// The thread ends when its connections are gone.
    pub(crate) fn finish(&self) {
        self.control.finish.store(true, Ordering::SeqCst);
        self.shared.lead.call_caretaker(&self.shared);
    }

    /// We are on it: waiting for it would be waiting for ourselves.
    pub(crate) fn is_current(&self) -> bool {
        thread::current().id() == self.id
    }
}

/// The life of a driver's thread: turns while nobody else does.
fn take_care(driver: &Mutex<Driver>, shared: &Shared, control: &Control) {
    let mut last = Instant::NEVER;
    loop {
        shared.lead.await_leisure(&shared.clock);
        let mut driver = lead::lock(driver);
        let turn = shared.lead.begin_care();
        // Before the turn: the wake-up that came with what was said may have ended somebody else's. What is said from here on
        // ends this one.
        control.heed(&mut driver, shared, &mut last);
        if turn.is_some() && !(last != Instant::NEVER && driver.is_over()) {
            let wait = (last != Instant::NEVER).then_some(Duration::from_millis(100));
            if let Err(error) = driver.turn(wait) {
                log::warn!("driver-failed: {error}");
                shared.lead.end_care(turn, &shared.clock);
                return;
            }
            control.heed(&mut driver, shared, &mut last);
        }
        let is_over = last != Instant::NEVER && (driver.is_over() || shared.clock.now() >= last);
        drop(driver);
        shared.lead.end_care(turn, &shared.clock);
        if is_over {
            return;
        }
    }
}

impl Drop for DriverThread {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Keepalive;
    use super::*;
    use crate::pattern::Limits;

    #[test]
    fn what_was_said_is_done_also_if_the_wake_up_has_ended_another_thread_s_turn() {
        let mut driver = Driver::new(&Limits::default(), Keepalive::default()).expect("a poll handle");
        let (shared, control) = (Arc::clone(driver.shared()), Control::default());
        control.stop_listening.store(true, Ordering::SeqCst);
        control.finish.store(true, Ordering::SeqCst);
        shared.lead.call_caretaker(&shared);
        // Somebody who led until now, and leaves because the caretaker was called.
        driver.turn(Some(Duration::ZERO)).expect("a turn");
        let driver = Arc::new(Mutex::new(driver));
        let (ended, thread) = std::sync::mpsc::channel();
        thread::spawn(move || {
            take_care(&driver, &shared, &control);
            let _ = ended.send(*control.deaf.lock().unwrap_or_else(PoisonError::into_inner));
        });
        assert_eq!(thread.recv_timeout(Duration::from_secs(30)), Ok(true));
    }
}
