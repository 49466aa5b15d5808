//! A subscription that is read with a callback, in turns on the dispatcher's thread.

use std::boxed::Box;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::de::DeserializeOwned;

use super::handlers::Readable;
use super::watch::Callbacks;
use crate::pattern;
use crate::rpc::{Event, Subscription};
use core::time::Duration;

/// A subscription with a callback: read on the dispatcher's thread, one job at a time.
pub(super) struct CallbackSource {
    callbacks: Weak<Callbacks>,
    /// A job is in the dispatcher's queue.
    queued: Mutex<bool>,
    /// Hands a few events to the callback; true if there may be more.
    read: Mutex<Option<Box<dyn FnMut() -> bool + Send>>>,
}

impl CallbackSource {
    /// One that reads nothing yet.
    pub(super) fn new(callbacks: &Arc<Callbacks>) -> Self {
        CallbackSource {
            callbacks: Arc::downgrade(callbacks),
            queued: Mutex::new(false),
            read: Mutex::new(None),
        }
    }

    /// Hands this subscription's events to this callback from now on.
    pub(super) fn read_with<T: DeserializeOwned + 'static>(
        self: &Arc<Self>,
        mut subscription: Subscription<T>,
        mut callback: impl FnMut(Event<T>) + Send + 'static,
    ) {
        self.read_by(move || match subscription.try_recv() {
            Some(event) => {
                callback(event);
                true
            }
            None => false,
        });
    }

    /// Hands this subscription's events to this callback from now on, as they came.
    pub(super) fn read_bytes_with(
        self: &Arc<Self>,
        mut subscription: Subscription<()>,
        mut callback: impl FnMut(pattern::Event<'_>) + Send + 'static,
    ) {
        self.read_by(move || match subscription.recv_bytes(Duration::ZERO) {
            Some(event) => {
                callback(event);
                true
            }
            None => false,
        });
    }

    /// `read_one` hands out one event; false if there is none.
    fn read_by(self: &Arc<Self>, mut read_one: impl FnMut() -> bool + Send + 'static) {
        let read: Box<dyn FnMut() -> bool + Send> = Box::new(move || (0..EVENTS_PER_JOB).all(|_| read_one()));
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        // Events may have come before there was anything to read them with.
        Arc::clone(self).readable();
    }

    fn run(self: Arc<Self>) {
        *self.queued.lock().unwrap_or_else(PoisonError::into_inner) = false;
        let again = AgainIfPanicking(&self);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let more = read.as_mut().is_some_and(|read| read());
        drop(read);
        if more {
            // Behind whatever else waits for the thread by now.
            Arc::clone(&self).readable();
        }
        drop(again);
    }
}

impl Readable for CallbackSource {
    fn readable(self: Arc<Self>) {
        let Some(callbacks) = self.callbacks.upgrade() else { return };
        let Some(dispatcher) = callbacks.dispatcher.get() else { return };
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        if !core::mem::replace(&mut *queued, true) {
            drop(queued);
            dispatcher.push(Box::new(move || self.run()));
        }
    }
}

/// A callback that panics has had its event; those behind it are read by another job, since nothing else may announce
/// them any more.
struct AgainIfPanicking<'a>(&'a Arc<CallbackSource>);

impl Drop for AgainIfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            Arc::clone(self.0).readable();
        }
    }
}

/// Events that one callback gets before others have their turn.
const EVENTS_PER_JOB: usize = 256;
