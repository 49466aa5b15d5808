//! The subscriber: one connection, one set of prefixes, one ordered stream of events, one account.
//!
//! The set is state, kept here and sent anew in every handshake. The account is what the position and the counts say:
//! inside it, received + reported lost == published and matching. A new server, or one that has forgotten us, begins
//! a new one, and the stream of events says so.
//!
//! It does not decode what it receives, and it never drops an event: when the application is behind, it stops
//! reading, and the publisher's log takes the strain.

mod error;
mod role;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

pub use error::SubscribeError;

use super::dialer::{ClientRole, Dialer, DialerSetup};
use super::inbox::{Batch, EventKind};
use super::set::CountedSet;
use super::{Action, ConnectionEvent, Random, Reconnect};
use crate::session::Limits;
use crate::time::Instant;
use crate::wire::{Role, SessionId, MAX_NAME_BYTES};

/// What a subscriber counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SubscriberStats {
    /// Messages received.
    pub received: u64,
    /// Messages reported lost, exactly known.
    pub lost: u64,
    /// Messages that may have been lost where it cannot be known: at most so many.
    pub lost_at_most: u64,
    /// Accounts begun: 1 for the first, one more for each restart or lost record.
    pub accounts: u64,
    /// Prefixes in the set.
    pub prefixes: u64,
    /// Bytes of events that wait for the application.
    pub inbox_bytes: u64,
    /// Times that reading paused because the application was behind.
    pub pauses: u64,
}

/// Follows one stream of one server; see the module's page.
#[derive(Debug)]
pub struct Subscriber {
    dialer: Dialer,
    set: CountedSet,
    set_bytes: u64,
    everything: bool,
    inbox: Batch,
    next_ticket: u64,
    /// The ticket of the handshake's last Subscribe, until it is answered.
    handshake: Option<Handshake>,
    /// Tickets given out and not answered yet, whose frames were or will be sent. Ascending.
    waiting: VecDeque<u64>,
    /// Frames to be sent as soon as the handshake is through: ticket, prefix, and whether it is to be added.
    changes: Vec<(u64, Box<str>, bool)>,
    /// The epoch of the account that is open. It stays open while other servers are met, until one of them has put the
    /// set in force.
    account: Option<u64>,
    /// Everything matching below it has been received or reported lost. `None` before the first account.
    position: Option<u64>,
    /// Received and reported lost in this account.
    accounted: u64,
    stats: SubscriberStats,
    /// Connection events for [`Subscriber::poll_connection_event`].
    notices: VecDeque<ConnectionEvent>,
    stopped: bool,
}

/// What the first Subscribed of a connection means.
#[derive(Debug, Clone, Copy)]
struct Handshake {
    ticket: u64,
    epoch: u64,
    /// The account that is open goes on; else a new one begins.
    resumes: bool,
}

impl Subscriber {
    /// A subscriber that knows `addresses` addresses and dials none yet, with its first prefix; `""` is everything.
    /// `session_id` and `random` are random bits.
    ///
    /// # Errors
    /// [`SubscribeError::TooLong`] for the prefix.
    ///
    /// # Panics
    /// If the limits are not valid, or there is no address; the caller's mistake.
    pub fn new(
        limits: Limits,
        reconnect: Reconnect,
        addresses: usize,
        session_id: SessionId,
        mut random: Random,
        prefix: &str,
    ) -> Result<Self, SubscribeError> {
        check_len(prefix)?;
        let setup = DialerSetup {
            role: Role::Subscriber,
            stream: Box::from(""),
            session_id,
            reconnect,
            addresses,
            seed: random.next_u64(),
        };
        let mut set = CountedSet::default();
        set.add(prefix);
        Ok(Subscriber {
            dialer: Dialer::new(setup, limits),
            set,
            set_bytes: prefix.len() as u64,
            everything: prefix.is_empty(),
            inbox: Batch::new(),
            next_ticket: 1,
            handshake: None,
            waiting: VecDeque::new(),
            changes: Vec::new(),
            account: None,
            position: None,
            accounted: 0,
            stats: SubscriberStats { prefixes: 1, ..SubscriberStats::default() },
            notices: VecDeque::new(),
            stopped: true,
        })
    }

    // Commands.

    /// Dials, and from then on keeps the connection alive.
    pub fn start(&mut self) {
        self.stopped = false;
        self.dialer.start();
    }

    /// Takes another session id, 128 random bits: to be called before it is started again after a stop, because the
    /// server was told that the old session is over.
    pub fn renew(&mut self, session_id: SessionId) {
        self.dialer.renew(session_id);
    }

    /// Ends the connection in good order. Events that have come can still be read; the set stays.
    pub fn stop(&mut self, now: Instant) {
        self.stopped = true;
        self.dialer.stop(now);
        self.after_input();
    }

    /// Adds a prefix, or counts it once more. [`EventKind::Subscribed`] with the ticket returned says from which
    /// position on it is in force.
    ///
    /// # Errors
    /// The prefix does not fit; the set is as it was.
    pub fn subscribe(&mut self, prefix: &str) -> Result<u64, SubscribeError> {
        check_len(prefix)?;
        self.check_unanswered()?;
        let limits = self.dialer.limits();
        let (limit, limit_bytes) = (limits.max_prefixes, limits.max_prefix_bytes);
        if !self.set.contains(prefix) {
            if self.everything || prefix.is_empty() {
                return Err(SubscribeError::EverythingIsForLife);
            }
            if self.set.len() >= limit as usize {
                return Err(SubscribeError::TooMany { limit });
            }
            if self.set_bytes + prefix.len() as u64 > limit_bytes {
                return Err(SubscribeError::TooManyBytes { limit: limit_bytes });
            }
            self.set_bytes += prefix.len() as u64;
        }
        self.set.add(prefix);
        Ok(self.change(prefix, true))
    }

    /// Takes a prefix back once; with the last time it leaves the set. Messages published before the answer may still
    /// arrive, and count as received.
    ///
    /// # Errors
    /// It is not in the set, or the subscription is to everything.
    pub fn unsubscribe(&mut self, prefix: &str) -> Result<u64, SubscribeError> {
        if self.everything {
            return Err(SubscribeError::EverythingIsForLife);
        }
        self.check_unanswered()?;
        match self.set.release(prefix).ok_or(SubscribeError::NotSubscribed)? {
            true => {
                self.set_bytes -= prefix.len() as u64;
                Ok(self.change(prefix, false))
            }
            // Still wanted: the server has nothing to change, and its answer is as good as any.
            false => Ok(self.change(prefix, true)),
        }
    }

    fn check_unanswered(&self) -> Result<(), SubscribeError> {
        let limit = self.dialer.limits().max_prefixes.saturating_mul(2);
        if self.waiting.len() >= limit as usize {
            return Err(SubscribeError::TooManyUnanswered { limit });
        }
        Ok(())
    }

    fn change(&mut self, prefix: &str, add: bool) -> u64 {
        self.stats.prefixes = self.set.len() as u64;
        let ticket = self.ticket();
        self.waiting.push_back(ticket);
        if self.dialer.is_established() {
            self.changes.push((ticket, Box::from(prefix), add));
            self.dialer.wake();
        }
        ticket
    }

    fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// Exchanges the batch that was read for what has come since; false if there is nothing.
    pub fn exchange(&mut self, batch: &mut Batch) -> bool {
        if self.inbox.is_empty() {
            return false;
        }
        batch.clear();
        core::mem::swap(&mut self.inbox, batch);
        if let Some(session) = self.dialer.session_mut().filter(|session| session.is_paused()) {
            session.unpause();
            if let Some(conn) = self.dialer.conn() {
                self.dialer.actions.push_back(Action::Read(conn));
            }
        }
        self.dialer.release();
        true
    }

    // Looking.

    /// The next thing that happened to the connection: the same that stands in the stream of events, for whoever
    /// watches connections and not streams. The newest few are kept.
    pub fn poll_connection_event(&mut self) -> Option<ConnectionEvent> {
        self.notices.pop_front()
    }

    /// Whether a ticket has been answered.
    pub fn is_answered(&self, ticket: u64) -> bool {
        ticket < self.next_ticket && self.waiting.binary_search(&ticket).is_err()
    }

    /// The set is in force: what is published from now on is received or reported lost.
    pub fn is_subscribed(&self) -> bool {
        self.is_connected() && self.handshake.is_none() && self.position.is_some()
    }

    /// The handshake is done and the connection lives.
    pub fn is_connected(&self) -> bool {
        self.dialer.is_established()
    }

    /// Stopped, and nothing waits to be written any more.
    pub fn is_flushed(&self) -> bool {
        self.dialer.is_flushed()
    }

    /// Stopped, and the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.dialer.is_idle()
    }

    /// It was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Something waits to be read with [`Subscriber::exchange`].
    pub fn has_events(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// The life of the server that was last met.
    pub fn epoch(&self) -> Option<u64> {
        self.dialer.epoch()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> SubscriberStats {
        SubscriberStats { inbox_bytes: self.inbox.size() as u64, ..self.stats }
    }
}

fn check_len(prefix: &str) -> Result<(), SubscribeError> {
    if prefix.len() > MAX_NAME_BYTES {
        return Err(SubscribeError::TooLong { len: prefix.len(), limit: MAX_NAME_BYTES });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
