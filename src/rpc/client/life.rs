//! What is behind a client's handles: what it was asked to be, and what runs of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::vec::Vec;

use super::builder::Config;
use super::watch::Whole;
use super::{CallHandler, SubscriptionHandler};
use crate::net::{self, DriverThread, Port, Shared};

/// What all handles of a client share.
pub(super) struct Inner {
    pub(super) config: Config,
    running: RwLock<Option<Arc<Running>>>,
    /// The first life, which most clients have only one of: found without a lock. What little is left of it when it is over
    /// stays until the last handle goes.
    pub(super) first: OnceLock<Arc<Running>>,
    /// Starting and stopping exclude each other.
    changing: Mutex<()>,
}

/// One life of a client.
pub(super) struct Running {
    pub(super) calls: Arc<Port<CallHandler>>,
    pub(super) subscriptions: Mutex<Vec<Weak<Port<SubscriptionHandler>>>>,
    pub(super) whole: Arc<Whole>,
    pub(super) shared: Arc<Shared>,
    pub(super) driver: DriverThread,
    pub(super) next_subscription: AtomicU64,
    /// It was stopped.
    pub(super) is_over: AtomicBool,
}

impl Running {
    pub(super) fn subscriptions(&self) -> MutexGuard<'_, Vec<Weak<Port<SubscriptionHandler>>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(super) fn new(config: Config) -> Result<Self, net::Error> {
        let running = config.start()?;
        let inner =
            Inner { config, running: RwLock::new(None), first: OnceLock::new(), changing: Mutex::new(()) };
        inner.run(running);
        Ok(inner)
    }

    /// What runs now.
    pub(super) fn running(&self) -> Option<Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn start(&self) -> Result<(), net::Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.running().is_some() {
            return Err(net::Error::AlreadyRunning);
        }
        self.run(self.config.start()?);
        Ok(())
    }

    fn run(&self, running: Running) {
        let running = Arc::new(running);
        // Only the first one stays.
        let _ = self.first.set(Arc::clone(&running));
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    pub(super) fn stop(&self) {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.running.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        running.is_over.store(true, Ordering::Relaxed);
        running.whole.stop();
        running.calls.command(|requester, now| requester.stop(now));
        let deadline = running.calls.now() + self.config.limits.linger;
        let ports: Vec<_> = running.subscriptions().drain(..).filter_map(|port| port.upgrade()).collect();
        for port in &ports {
            port.command(|subscriber, now| subscriber.stop(now));
        }
        if !running.driver.is_current() {
            running.calls.wait_until(deadline, |requester| requester.is_flushed().then_some(()));
            for port in &ports {
                port.wait_until(deadline, |subscriber| subscriber.is_flushed().then_some(()));
            }
        }
        let sources = running.whole.take_sources();
        drop(ports);
        self.config.callbacks.leave(&running.shared);
        running.driver.finish();
        // What the callbacks own is the user's, and its end may stop us once more.
        drop(changing);
        drop(sources);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
