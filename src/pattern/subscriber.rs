//! The subscriber: one connection, one set of prefixes, one ordered stream of events, one account.
//!
//! The set is state, kept here and sent anew in every handshake. The account is what the position and the counts say:
//! inside it, received + reported lost == published and matching. A new server, or one that has forgotten us, begins
//! a new one, and the stream of events says so.
//!
//! It does not decode what it receives, and it never drops an event: when the application is behind, it stops
//! reading, and the publisher's log takes the strain.

mod error;
mod marks;
mod options;
mod role;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

pub use error::SubscribeError;
pub use options::{Place, SubscribeOptions};

use super::dialer::{ClientRole, Dialer, DialerSetup};
use super::inbox::{Batch, EventKind};
use super::set::CountedSet;
use super::{Action, ConnectionEvent, Random, Reconnect};
use crate::session::Limits;
use crate::time::Instant;
use crate::wire::{Prefixes, Role, SessionId, MAX_NAME_BYTES};
use marks::Marks;
pub(crate) use role::MOST_NOTICES;

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
    /// Messages of snapshots; they count as nothing received.
    pub snapshot_messages: u64,
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
    /// Frames to be sent as soon as the handshake is through.
    changes: Vec<Change>,
    /// It asks for snapshots.
    snapshot: bool,
    /// The prefixes whose snapshot has not been answered yet.
    marks: Marks,
    /// The epoch of the account that is open. It stays open while other servers are met, until one of them has put the
    /// set in force.
    account: Option<u64>,
    /// Everything matching below it has been received or reported lost. `None` before the first account.
    position: Option<u64>,
    /// Received and reported lost in this account.
    accounted: u64,
    /// The position is one that the application has saved, and no server has said anything about it yet.
    is_saved: bool,
    stats: SubscriberStats,
    /// Connection events for [`Subscriber::poll_connection_event`].
    notices: VecDeque<ConnectionEvent>,
    stopped: bool,
}

/// A Subscribe or Unsubscribe to be sent.
#[derive(Debug)]
struct Change {
    ticket: u64,
    /// The prefixes, as on the wire.
    region: Vec<u8>,
    add: bool,
    snapshot: bool,
}

/// What a change takes beside its prefix, until it is answered: itself, its ticket twice, and the frame around it.
pub(crate) const CHANGE_BYTES: u64 = (size_of::<Change>() + 4 * size_of::<u64>()) as u64;

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
        random: Random,
        prefix: &str,
    ) -> Result<Self, SubscribeError> {
        Self::with(limits, reconnect, addresses, session_id, random, prefix, SubscribeOptions::default())
    }

    /// Like [`Subscriber::new`], to another stream, with snapshots, or from a saved place.
    ///
    /// # Errors
    /// [`SubscribeError::TooLong`] for the prefix, [`SubscribeError::StreamNameTooLong`] for the stream's name, and for
    /// further prefixes what [`Subscriber::subscribe`] says.
    ///
    /// # Panics
    /// As for [`Subscriber::new`].
    pub fn with(
        limits: Limits,
        reconnect: Reconnect,
        addresses: usize,
        session_id: SessionId,
        mut random: Random,
        prefix: &str,
        options: SubscribeOptions,
    ) -> Result<Self, SubscribeError> {
        check_len(prefix)?;
        if options.stream.len() > MAX_NAME_BYTES {
            let len = options.stream.len();
            return Err(SubscribeError::StreamNameTooLong { len, limit: MAX_NAME_BYTES });
        }
        let setup = DialerSetup {
            role: Role::Subscriber,
            stream: options.stream,
            session_id,
            reconnect,
            addresses,
            seed: random.next_u64(),
        };
        let mut set = CountedSet::default();
        set.add(prefix);
        let mut marks = Marks::default();
        if options.snapshot {
            marks.add(prefix, Marks::NOT_SENT);
        }
        let mut subscriber = Subscriber {
            dialer: Dialer::new(setup, limits),
            set,
            set_bytes: prefix.len() as u64,
            everything: prefix.is_empty(),
            inbox: Batch::new(),
            next_ticket: 1,
            handshake: None,
            waiting: VecDeque::new(),
            changes: Vec::new(),
            snapshot: options.snapshot,
            marks,
            account: options.from.map(|place| place.epoch),
            position: options.from.map(|place| place.seq),
            accounted: 0,
            is_saved: options.from.is_some(),
            stats: SubscriberStats { prefixes: 1, ..SubscriberStats::default() },
            notices: VecDeque::new(),
            stopped: true,
        };
        for prefix in &options.also {
            subscriber.subscribe(prefix)?;
        }
        Ok(subscriber)
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
        let new = self.set.add(prefix);
        Ok(self.change(prefix, true, new && self.snapshot))
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
                self.marks.remove(prefix);
                Ok(self.change(prefix, false, false))
            }
            // Still wanted: the server has nothing to change, and its answer is as good as any.
            false => Ok(self.change(prefix, true, false)),
        }
    }

    fn check_unanswered(&self) -> Result<(), SubscribeError> {
        let limit = self.dialer.limits().max_prefixes.saturating_mul(2);
        if self.waiting.len() >= limit as usize {
            return Err(SubscribeError::TooManyUnanswered { limit });
        }
        Ok(())
    }

    /// Asks anew for the newest message of each topic that the set matches. They come as snapshot events, and the
    /// [`EventKind::Subscribed`] with the ticket returned ends them; if the server was restarted meanwhile, the one with
    /// ticket 0 behind [`EventKind::Restarted`] does.
    ///
    /// # Errors
    /// Too many changes wait for an answer.
    pub fn refresh(&mut self) -> Result<u64, SubscribeError> {
        self.check_unanswered()?;
        if !self.dialer.is_established() {
            self.marks.add_all(self.set.iter(), Marks::NOT_SENT);
            let ticket = self.ticket();
            self.waiting.push_back(ticket);
            return Ok(ticket);
        }
        let mut regions: Vec<Vec<u8>> = self.set.regions().collect();
        if regions.is_empty() {
            // An empty set is answered too.
            regions.push(Vec::new());
        }
        let mut regions = regions.into_iter().peekable();
        let mut last = 0;
        let mut changes = Vec::new();
        while let Some(region) = regions.next() {
            last = self.next_ticket;
            self.next_ticket += 1;
            self.waiting.push_back(last);
            let prefixes = Prefixes::from_bytes(&region).expect("built from whole prefixes");
            self.marks.add_all(prefixes.iter(), last);
            if regions.peek().is_some() {
                self.marks.note_part(last);
            }
            changes.push(Change { ticket: last, region, add: true, snapshot: true });
        }
        self.changes.append(&mut changes);
        self.dialer.wake();
        Ok(last)
    }

    fn change(&mut self, prefix: &str, add: bool, snapshot: bool) -> u64 {
        self.stats.prefixes = self.set.len() as u64;
        let ticket = self.ticket();
        self.waiting.push_back(ticket);
        let established = self.dialer.is_established();
        if snapshot {
            self.marks.add(prefix, if established { ticket } else { Marks::NOT_SENT });
        }
        if established {
            let mut region = Vec::new();
            Prefixes::push(&mut region, prefix).expect("prefixes are checked when they are added");
            self.changes.push(Change { ticket, region, add, snapshot });
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
