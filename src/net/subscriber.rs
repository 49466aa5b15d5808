//! The bare subscriber: a stream of events without a hidden thread.

use core::net::SocketAddr;

use super::bare::{under_another_loop, Socket};
use super::requester::dialable;
use super::{random_bytes, random_u64, Error};
use crate::pattern::{
    self, Batch, Event, Limits, Random, Reconnect, SessionId, SubscribeError, SubscribeOptions,
    SubscriberStats,
};
use crate::time::Duration;

/// Follows the publications of one server by topic prefix, and has no thread: whoever receives drives it.
///
/// Not receiving for long is allowed: reading pauses, the publisher's log holds what it can, and what it cannot is
/// reported as lost. But heartbeats are heard only while it is polled.
pub struct Subscriber {
    socket: Socket<pattern::Subscriber>,
    limits: Limits,
    batch: Batch,
}

under_another_loop!(Subscriber);

impl Subscriber {
    /// Dials the first of the addresses, and the next one after each failure, and subscribes to `prefix`; `""` is
    /// everything. Returns at once.
    ///
    /// # Errors
    /// [`ConnectError`]: no address, one that cannot be dialled, bad limits, no poll handle, or a prefix that is too
    /// long.
    pub fn connect(
        addresses: &[SocketAddr],
        prefix: &str,
        limits: Limits,
        reconnect: Reconnect,
    ) -> Result<Self, ConnectError> {
        Self::connect_with(addresses, prefix, limits, reconnect, SubscribeOptions::default())
    }

    /// Like [`Subscriber::connect`], to another stream than the main one, with snapshots, or from a saved place.
    ///
    /// # Errors
    /// As for [`Subscriber::connect`], or a stream's name that is too long.
    pub fn connect_with(
        addresses: &[SocketAddr],
        prefix: &str,
        limits: Limits,
        reconnect: Reconnect,
        options: SubscribeOptions,
    ) -> Result<Self, ConnectError> {
        limits.validate().map_err(Error::Limits)?;
        let addresses = dialable(addresses)?;
        let random = Random::new(random_u64());
        let session = SessionId(random_bytes());
        let known = addresses.len();
        let mut machine =
            pattern::Subscriber::with(limits.clone(), reconnect, known, session, random, prefix, options)?;
        machine.start();
        let socket = Socket::new(machine, &limits, addresses)?;
        Ok(Subscriber { socket, limits, batch: Batch::new() })
    }

    /// The next event, waiting for it at most so long (`None`: for ever).
    ///
    /// # Errors
    /// The poll failed.
    pub fn recv(&mut self, timeout: Option<Duration>) -> Result<Option<Event<'_>>, Error> {
        if self.batch.is_read() {
            let batch = &mut self.batch;
            let found = self.socket.turn_until(timeout, |machine| machine.exchange(batch).then_some(()))?;
            if found.is_none() {
                return Ok(None);
            }
        }
        Ok(self.batch.next())
    }

    /// Adds a prefix; see [`pattern::Subscriber::subscribe`].
    ///
    /// # Errors
    /// The prefix does not fit; the set is as it was.
    pub fn subscribe(&mut self, prefix: &str) -> Result<u64, SubscribeError> {
        self.socket.port.command(|machine, _| machine.subscribe(prefix))
    }

    /// Takes a prefix back; see [`pattern::Subscriber::unsubscribe`].
    ///
    /// # Errors
    /// It is not in the set, or the subscription is to everything.
    pub fn unsubscribe(&mut self, prefix: &str) -> Result<u64, SubscribeError> {
        self.socket.port.command(|machine, _| machine.unsubscribe(prefix))
    }

    /// Asks for the newest message of each topic of the set; see [`pattern::Subscriber::refresh`].
    ///
    /// # Errors
    /// Too many changes wait for an answer.
    pub fn refresh(&mut self) -> Result<u64, SubscribeError> {
        self.socket.port.command(|machine, _| machine.refresh())
    }

    /// The handshake is done and the connection lives, as far as the last poll knows.
    pub fn is_connected(&self) -> bool {
        self.socket.port.lock().machine.is_connected()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> SubscriberStats {
        self.socket.port.lock().machine.stats()
    }

    /// Says Bye; at once if nothing is unsent, else within `linger`.
    ///
    /// # Errors
    /// The poll failed.
    pub fn close(self) -> Result<(), Error> {
        let linger = self.limits.linger;
        self.socket.close(linger, |machine, now| machine.stop(now), |machine| machine.is_flushed())
    }
}

/// Why a subscriber could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The prefix.
    #[error(transparent)]
    Prefix(#[from] SubscribeError),
    /// Anything else.
    #[error(transparent)]
    Setup(#[from] Error),
}
