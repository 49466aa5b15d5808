//! What the driver's ports have done with their news: outcomes reach their callers, events their readers.

use std::sync::{Arc, Weak};
use std::vec::Vec;

use super::watch::Watch;
use crate::net::{Handler, Port};
use crate::pattern::{ConnectionEvent, Done, Requester, Subscriber};
use crate::rpc::call::Slots;

/// Hands outcomes to those who wait for them.
pub(crate) struct CallHandler {
    pub(crate) slots: Slots,
    pub(super) watch: Watch,
    /// See `codec::most_kept`.
    pub(crate) most_kept: usize,
}

/// What a requester has to say.
pub(crate) enum CallNews {
    Done(Done),
    Connection(ConnectionEvent),
}

impl Handler for CallHandler {
    type Machine = Requester;
    type Job = CallNews;

    fn collect(&self, machine: &mut Requester, jobs: &mut Vec<CallNews>) {
        while let Some(done) = machine.poll_done() {
            jobs.push(CallNews::Done(done));
        }
        while let Some(event) = machine.poll_connection_event() {
            // Under the lock, so that no later event of another thread's overtakes this one.
            self.watch.handle_event(&event);
            jobs.push(CallNews::Connection(event));
        }
    }

    fn run(&self, _port: &Arc<Port<Self>>, jobs: &mut Vec<CallNews>) {
        // Before anything is logged, which may take its time, or panic.
        let outcomes = jobs.iter().take_while(|job| matches!(job, CallNews::Done(_))).count();
        self.slots.put(jobs.drain(..outcomes).filter_map(|job| match job {
            CallNews::Done(done) => Some(done),
            CallNews::Connection(_) => None,
        }));
        for job in jobs.drain(..) {
            match job {
                CallNews::Done(done) => self.slots.put(core::iter::once(done)),
                CallNews::Connection(event) => self.watch.log(&event),
            }
        }
    }

    fn is_over(&self, machine: &Requester) -> bool {
        machine.is_stopped() && machine.is_closed()
    }
}

/// Told when a subscription has something to read.
pub(super) trait Readable: Send + Sync {
    fn readable(self: Arc<Self>);
}

/// Tells a subscription's reader, and the whole, what happens.
pub(crate) struct SubscriptionHandler {
    pub(super) watch: Watch,
    /// Weak: the reader holds the subscription, and the client holds the reader.
    pub(super) readable: Option<Weak<dyn Readable>>,
}

/// What a subscriber has to say.
pub(crate) enum SubscriptionNews {
    Readable,
    Connection(ConnectionEvent),
}

impl SubscriptionHandler {
    /// The subscription is being stopped: that its connection ends is no loss.
    pub(crate) fn leave(&self) {
        self.watch.left();
    }
}

impl Handler for SubscriptionHandler {
    type Machine = Subscriber;
    type Job = SubscriptionNews;

    fn collect(&self, machine: &mut Subscriber, jobs: &mut Vec<SubscriptionNews>) {
        while let Some(event) = machine.poll_connection_event() {
            // As with calls.
            self.watch.handle_event(&event);
            jobs.push(SubscriptionNews::Connection(event));
        }
        if self.readable.is_some() && machine.has_events() {
            jobs.push(SubscriptionNews::Readable);
        }
    }

    fn run(&self, _port: &Arc<Port<Self>>, jobs: &mut Vec<SubscriptionNews>) {
        for job in jobs.drain(..) {
            match job {
                SubscriptionNews::Readable => {
                    if let Some(readable) = self.readable.as_ref().and_then(Weak::upgrade) {
                        readable.readable();
                    }
                }
                SubscriptionNews::Connection(event) => self.watch.log(&event),
            }
        }
    }

    fn is_over(&self, machine: &Subscriber) -> bool {
        let over = machine.is_stopped() && machine.is_closed();
        if over {
            self.watch.left();
        }
        over
    }
}
