//! Subscriptions as their user sees them: one ordered stream of typed events.

mod control;

use core::marker::PhantomData;
use std::string::String;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::client::SubscriptionHandler;
use super::{codec, DecodeError, TopicPrefix};
use crate::net::{Instant, Port};
use crate::pattern::{
    self, Batch, Cause, CloseReason, ConnectionEvent, EventKind, Lost, SubscribeError, SubscriberStats,
};
pub use control::SubscriptionControl;

/// What a subscription brings, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<T> {
    /// A publication.
    Message {
        /// Its topic.
        topic: String,
        /// Its number in the stream.
        seq: u64,
        /// What was published.
        data: T,
    },
    /// The newest message of a topic from before the subscription, or from before a refresh: what is true now, as far as
    /// the server knows. Counts as nothing received. The next [`Event::Subscribed`] ends the snapshot.
    Snapshot {
        /// Its topic.
        topic: String,
        /// The number under which it was published.
        seq: u64,
        /// What was published.
        data: T,
    },
    /// A message that is not of the type asked for. A publication counts as received all the same.
    Undecodable {
        /// Its topic.
        topic: String,
        /// Its number in the stream.
        seq: u64,
        /// What is wrong with it.
        error: DecodeError,
        /// Whether it is of a snapshot, and no publication that counts.
        snapshot: bool,
    },
    /// Messages were lost.
    Lost {
        /// The position before.
        before: u64,
        /// The position after.
        after: u64,
        /// How many matching messages lie between the two.
        lost: Lost,
    },
    /// The set that was asked for is in force: every matching message from this position on is received or reported
    /// lost.
    Subscribed {
        /// The position.
        position: u64,
    },
    /// The server is another one than before: numbers begin anew, and whatever was published meanwhile is unknown.
    Restarted {
        /// The server's new life.
        epoch: u64,
        /// The position from which on messages are received.
        from: u64,
    },
    /// The connection is there.
    Connected {
        /// The server's life.
        epoch: u64,
    },
    /// The connection is gone; it is dialled again.
    Disconnected(CloseReason),
    /// The next dial comes after this wait.
    RetryIn {
        /// The wait.
        after: Duration,
        /// Counts the waits since the last success, from 1.
        attempt: u32,
        /// What went wrong.
        cause: Cause,
    },
    /// The reconnect policy says to dial no more; nothing comes after this.
    GaveUp(Cause),
}

/// One connection, one set of prefixes, one ordered stream of [`Event`]s.
///
/// An iterator that ends when the subscription or its client is stopped. Slow reading is allowed: what does not fit
/// into the inbox waits in the publisher's log, and what the log loses is reported as [`Event::Lost`]. It is one of
/// several if need be, and hurts only itself. Dropping it ends it.
pub struct Subscription<T> {
    port: Arc<Port<SubscriptionHandler>>,
    batch: Batch,
    reached: Reached,
    linger: Duration,
    types: PhantomData<fn() -> T>,
}

/// How far the events that were handed out have come.
#[derive(Debug, Default)]
struct Reached {
    position: u64,
    /// The life that the position belongs to.
    epoch: Option<u64>,
    /// The life that was met last; it has perhaps not put the set in force yet.
    met: Option<u64>,
}

impl Reached {
    fn note(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Position(position) | EventKind::Lost { after: position, .. } => {
                self.position = *position;
            }
            EventKind::Subscribed { position, .. } => (self.position, self.epoch) = (*position, self.met),
            EventKind::Restarted { epoch, from } => (self.position, self.epoch) = (*from, Some(*epoch)),
            EventKind::Connection(event) => {
                if let ConnectionEvent::Connected { epoch, .. } = **event {
                    self.met = Some(epoch);
                }
            }
        }
    }
}

impl<T: DeserializeOwned> Subscription<T> {
    /// `place` is where it begins, if that was saved.
    pub(crate) fn new(
        port: Arc<Port<SubscriptionHandler>>,
        linger: Duration,
        place: Option<pattern::Place>,
    ) -> Self {
        let reached = Reached {
            position: place.map_or(0, |place| place.seq),
            epoch: place.map(|place| place.epoch),
            met: None,
        };
        Subscription { port, batch: Batch::new(), reached, linger, types: PhantomData }
    }

    /// The next event; `None` when the subscription has ended.
    pub fn recv(&mut self) -> Option<Event<T>> {
        loop {
            match self.wait(Instant::NEVER) {
                Waited::Event(event) => return Some(event),
                Waited::Ended => return None,
                Waited::TimedOut => {}
            }
        }
    }

    /// The next event, if one comes in time. `None` also when the subscription has ended; see
    /// [`Subscription::is_over`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Event<T>> {
        match self.wait(self.port.now() + timeout) {
            Waited::Event(event) => Some(event),
            Waited::Ended | Waited::TimedOut => None,
        }
    }

    /// The next event that is there already.
    pub fn try_recv(&mut self) -> Option<Event<T>> {
        self.recv_timeout(Duration::ZERO)
    }

    /// The next event as it came, its data as bytes, for a codec of your own: nothing is copied or allocated for it.
    /// `None` if none comes in time, or when the subscription has ended.
    ///
    /// What [`Subscription::recv`] and this hand out is one stream: each event comes out of one of them.
    #[inline]
    pub fn recv_bytes(&mut self, timeout: Duration) -> Option<pattern::Event<'_>> {
        if self.batch.is_read() && !self.has_next_batch(timeout) {
            return None;
        }
        let event = self.batch.next()?;
        match &event {
            pattern::Event::Message { seq, .. } => self.reached.position = seq + 1,
            pattern::Event::Snapshot { .. } => {}
            pattern::Event::Other(kind) => self.reached.note(kind),
        }
        Some(event)
    }

    /// Fetches what has come, if something does in time.
    #[cold]
    fn has_next_batch(&mut self, timeout: Duration) -> bool {
        let deadline = self.port.now() + timeout;
        self.next_batch(deadline) == Some(true)
    }

    /// Fetches what has come: true if there is something, false if there never will be, `None` if it took too long.
    fn next_batch(&mut self, deadline: Instant) -> Option<bool> {
        let batch = &mut self.batch;
        self.port.wait_until(deadline, |machine| {
            if machine.exchange(batch) {
                Some(true)
            } else {
                machine.is_stopped().then_some(false)
            }
        })
    }

    fn wait(&mut self, deadline: Instant) -> Waited<T> {
        loop {
            while !self.batch.is_read() {
                if let Some(event) = self.next_in_batch() {
                    return Waited::Event(event);
                }
            }
            match self.next_batch(deadline) {
                Some(true) => {}
                Some(false) => return Waited::Ended,
                None => return Waited::TimedOut,
            }
        }
    }

    /// The batch's next event, unless it was a mere position.
    fn next_in_batch(&mut self) -> Option<Event<T>> {
        match self.batch.next()? {
            pattern::Event::Message { seq, topic, data } => {
                self.reached.position = seq + 1;
                let topic = String::from(topic);
                Some(match codec::decode(data) {
                    Ok(data) => Event::Message { topic, seq, data },
                    Err(error) => Event::Undecodable { topic, seq, error, snapshot: false },
                })
            }
            pattern::Event::Snapshot { seq, topic, data } => {
                let topic = String::from(topic);
                Some(match codec::decode(data) {
                    Ok(data) => Event::Snapshot { topic, seq, data },
                    Err(error) => Event::Undecodable { topic, seq, error, snapshot: true },
                })
            }
            pattern::Event::Other(kind) => self.other(kind),
        }
    }

    fn other(&mut self, kind: EventKind) -> Option<Event<T>> {
        self.reached.note(&kind);
        Some(match kind {
            EventKind::Position(_) => return None,
            EventKind::Lost { before, after, lost } => Event::Lost { before, after, lost },
            EventKind::Subscribed { position, .. } => Event::Subscribed { position },
            EventKind::Restarted { epoch, from } => Event::Restarted { epoch, from },
            EventKind::Connection(event) => match *event {
                ConnectionEvent::Connected { epoch, .. } => Event::Connected { epoch },
                ConnectionEvent::Disconnected { reason } => Event::Disconnected(reason),
                ConnectionEvent::RetryIn { after, attempt, cause } => {
                    Event::RetryIn { after, attempt, cause }
                }
                ConnectionEvent::GaveUp { cause } => Event::GaveUp(cause),
            },
        })
    }

    // What can be changed.

    /// What changes and ends it while another thread reads it.
    pub fn control(&self) -> SubscriptionControl<T> {
        SubscriptionControl::new(Arc::clone(&self.port))
    }

    /// Adds a prefix to the set, or counts it once more. [`Event::Subscribed`] says from which position on.
    ///
    /// # Errors
    /// It does not fit; the set is as it was.
    pub fn add(&self, prefix: impl TopicPrefix<T>) -> Result<(), SubscribeError> {
        self.control().add(prefix)
    }

    /// Adds a prefix and waits until it is in force: a message published after this returned is received.
    ///
    /// Waits without reading, so events keep coming in behind it. False: it is not in force within the timeout; it
    /// stays in the set, and comes into force when the server is there.
    ///
    /// # Errors
    /// It does not fit; the set is as it was.
    pub fn add_and_wait(
        &self,
        prefix: impl TopicPrefix<T>,
        timeout: Duration,
    ) -> Result<bool, SubscribeError> {
        let deadline = self.port.now() + timeout;
        let ticket = control::change(&self.port, |machine| machine.subscribe(prefix.prefix()))?;
        let answered = self.port.wait_until(deadline, |machine| {
            let answered = machine.is_answered(ticket);
            (answered || machine.is_stopped()).then_some(answered)
        });
        Ok(answered.unwrap_or(false))
    }

    /// Takes a prefix back once; with the last time it leaves the set. Messages published before the server's answer
    /// may still arrive.
    ///
    /// # Errors
    /// It is not in the set, or the subscription is to everything.
    pub fn remove(&self, prefix: impl TopicPrefix<T>) -> Result<(), SubscribeError> {
        self.control().remove(prefix)
    }

    /// Asks anew for the newest message of each topic that the set matches. They come as [`Event::Snapshot`], and an
    /// [`Event::Subscribed`] ends them. A stream that keeps no last values has none to give.
    ///
    /// # Errors
    /// The subscription is stopped, or too many changes of it wait for the server's answer.
    pub fn refresh(&self) -> Result<(), SubscribeError> {
        self.control().refresh()
    }

    /// Waits until the set is in force for the first time; false if it is not within the timeout.
    pub fn wait_subscribed(&self, timeout: Duration) -> bool {
        let deadline = self.port.now() + timeout;
        let subscribed = self.port.wait_until(deadline, |machine| {
            (machine.is_subscribed() || machine.is_stopped()).then(|| machine.is_subscribed())
        });
        subscribed.unwrap_or(false)
    }

    // What can be seen.

    /// Everything matching below this position has been handed out by this iterator, as a message or as lost.
    pub fn position(&self) -> u64 {
        self.reached.position
    }

    /// The life of the server that the position belongs to.
    pub fn epoch(&self) -> Option<u64> {
        self.reached.epoch
    }

    /// Where it is: what [`SubscribeOptions::from`](crate::SubscribeOptions::from) takes to go on from here in another
    /// life of this program. To be saved when every event handed out so far was dealt with. `None` before the first
    /// server was met.
    pub fn place(&self) -> Option<pattern::Place> {
        self.reached.epoch.map(|epoch| pattern::Place { epoch, seq: self.reached.position })
    }

    /// The connection is there.
    pub fn is_connected(&self) -> bool {
        self.port.lock().machine.is_connected()
    }

    /// It was stopped; events that had come can still be read. Takes a lock, which is more than reading an event does: to be
    /// asked when nothing came.
    pub fn is_over(&self) -> bool {
        self.port.lock().machine.is_stopped()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> SubscriberStats {
        self.port.lock().machine.stats()
    }

    /// Ends it: Bye, and no more events than have come. At once if nothing is unsent, else within `linger`.
    pub fn stop(&self) {
        let deadline = self.port.now() + self.linger;
        self.port.handler.leave();
        self.port.command(|machine, now| machine.stop(now));
        self.port.wait_until(deadline, |machine| machine.is_flushed().then_some(()));
    }
}

enum Waited<T> {
    Event(Event<T>),
    Ended,
    TimedOut,
}

impl<T: DeserializeOwned> Iterator for Subscription<T> {
    type Item = Event<T>;

    fn next(&mut self) -> Option<Event<T>> {
        self.recv()
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.port.handler.leave();
        self.port.command(|machine, now| machine.stop(now));
    }
}

impl<T> core::fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Subscription").field("reached", &self.reached).finish()
    }
}
