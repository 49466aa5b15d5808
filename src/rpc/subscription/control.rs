//! What changes and ends a subscription while another thread reads it.

use core::marker::PhantomData;
use std::sync::{Arc, Weak};

use crate::net::Port;
use crate::pattern::{SubscribeError, Subscriber};
use crate::rpc::client::SubscriptionHandler;
use crate::rpc::TopicPrefix;

/// Changes and ends a [`Subscription`](super::Subscription) while another thread reads it.
///
/// Clones are the same. It keeps nothing alive: once the subscription is gone, everything gives
/// [`SubscribeError::Stopped`].
pub struct SubscriptionControl<T> {
    port: Weak<Port<SubscriptionHandler>>,
    types: PhantomData<fn() -> T>,
}

impl<T> SubscriptionControl<T> {
    pub(super) fn new(port: Arc<Port<SubscriptionHandler>>) -> Self {
        SubscriptionControl { port: Arc::downgrade(&port), types: PhantomData }
    }

    /// As [`Subscription::add`](super::Subscription::add).
    ///
    /// # Errors
    /// It does not fit, or the subscription is over; the set is as it was.
    pub fn add(&self, prefix: impl TopicPrefix<T>) -> Result<(), SubscribeError> {
        self.change(|machine| machine.subscribe(prefix.prefix()))
    }

    /// As [`Subscription::remove`](super::Subscription::remove).
    ///
    /// # Errors
    /// It is not in the set, the subscription is to everything, or it is over.
    pub fn remove(&self, prefix: impl TopicPrefix<T>) -> Result<(), SubscribeError> {
        self.change(|machine| machine.unsubscribe(prefix.prefix()))
    }

    /// As [`Subscription::refresh`](super::Subscription::refresh).
    ///
    /// # Errors
    /// The subscription is over, or too many changes of it wait for the server's answer.
    pub fn refresh(&self) -> Result<(), SubscribeError> {
        self.change(Subscriber::refresh)
    }

    /// Ends the subscription without waiting: its reader gets what has come, and then the end.
    pub fn stop(&self) {
        if let Some(port) = self.port.upgrade() {
            port.handler.leave();
            port.command(|machine, now| machine.stop(now));
        }
    }

    fn change(
        &self,
        how: impl FnOnce(&mut Subscriber) -> Result<u64, SubscribeError>,
    ) -> Result<(), SubscribeError> {
        change(&self.port.upgrade().ok_or(SubscribeError::Stopped)?, how).map(drop)
    }
}

/// Changes the set of a subscription that is not over; the ticket of the change.
pub(super) fn change(
    port: &Arc<Port<SubscriptionHandler>>,
    how: impl FnOnce(&mut Subscriber) -> Result<u64, SubscribeError>,
) -> Result<u64, SubscribeError> {
    port.command(|machine, _| match machine.is_stopped() {
        true => Err(SubscribeError::Stopped),
        false => how(machine),
    })
}

impl<T> Clone for SubscriptionControl<T> {
    fn clone(&self) -> Self {
        SubscriptionControl { port: Weak::clone(&self.port), types: PhantomData }
    }
}

impl<T> core::fmt::Debug for SubscriptionControl<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SubscriptionControl").finish_non_exhaustive()
    }
}
