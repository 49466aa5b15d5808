//! The subscriber: one connection, one set of prefixes, one ordered stream of events, one account.
//!
//! The set is state, kept here and sent anew in every handshake. The account is what the position and the counts say:
//! inside it, received + reported lost == published and matching. A new server, or one that has forgotten us, begins
//! a new one, and the stream of events says so.
//!
//! It does not decode what it receives, and it never drops an event: when the application is behind, it stops
//! reading, and the publisher's log takes the strain.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::dialer::{ClientRole, Dialer, DialerSetup, Lag};
use super::inbox::{Batch, EventKind};
use super::set::CountedSet;
use super::{Action, ConnectionEvent, Random, Reconnect};
use crate::session::{Chunk, CloseReason, Limits, Violation};
use crate::time::Instant;
use crate::wire::{
    Frame, Lost, Prefixes, Role, SessionId, Start, Subscribe, Subscribed, Unsubscribe, Welcome,
    MAX_NAME_BYTES,
};

/// Why a prefix was refused; the set is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The prefix is longer than 255 bytes: no topic can match it.
    #[error("prefix of {len} bytes is above the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The set is at its limit.
    #[error("the subscription has {limit} prefixes, its limit")]
    TooMany {
        /// The limit in prefixes.
        limit: u32,
    },
    /// The set's bytes are at their limit.
    #[error("the subscription's prefixes are above {limit} bytes")]
    TooManyBytes {
        /// The limit in bytes.
        limit: u64,
    },
    /// A subscription to everything (`""`) is that for life: make another one for single prefixes, and the other way
    /// round.
    #[error("a subscription is to everything or to single prefixes, for life")]
    EverythingIsForLife,
    /// Too many changes wait for the server's answer.
    #[error("{limit} changes wait for an answer")]
    TooManyUnanswered {
        /// The limit in changes: twice that of prefixes.
        limit: u32,
    },
    /// The prefix is not in the set.
    #[error("not subscribed to this prefix")]
    NotSubscribed,
    /// The subscription was stopped.
    #[error("the subscription is stopped")]
    Stopped,
}

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

    // Frames.

    fn send_set(&mut self, start: Start) -> u64 {
        let ticket = self.ticket();
        let mut region = Vec::new();
        let Some(session) = self.dialer.session_mut() else { return ticket };
        for prefix in self.set.iter() {
            Prefixes::push(&mut region, prefix).expect("prefixes are checked when they are added");
            if region.len() > REGION_BYTES {
                let prefixes = Prefixes::from_bytes(&region).expect("built from whole prefixes");
                session.send_control(&Frame::Subscribe(Subscribe {
                    ticket,
                    snapshot: false,
                    start: None,
                    prefixes,
                }));
                region.clear();
            }
        }
        let prefixes = Prefixes::from_bytes(&region).expect("built from whole prefixes");
        session.send_control(&Frame::Subscribe(Subscribe {
            ticket,
            snapshot: false,
            start: Some(start),
            prefixes,
        }));
        ticket
    }

    /// What was asked for up to this ticket is in force from this position on.
    fn answer_waiting(&mut self, up_to: u64, position: u64) {
        while let Some(ticket) = self.waiting.front().copied().filter(|ticket| *ticket <= up_to) {
            self.waiting.pop_front();
            self.inbox.push(EventKind::Subscribed { ticket, position });
        }
    }

    /// The set is not in force yet, and no account goes on meanwhile.
    fn begins_anew(&self) -> bool {
        self.handshake.is_some_and(|handshake| !handshake.resumes)
    }

    /// Moves the position on; it never goes back.
    fn advance(&mut self, seq: u64, position: u64) -> Result<(), CloseReason> {
        let reached = self.position.unwrap_or(0);
        if seq < reached {
            return Err(CloseReason::Protocol(Violation::SequenceWentBack { seq, position: reached }));
        }
        self.position = Some(position);
        Ok(())
    }

    fn handle_subscribed(&mut self, subscribed: Subscribed) -> Result<(), CloseReason> {
        let Subscribed { ticket, position } = subscribed;
        if let Some(handshake) = self.handshake {
            if ticket != handshake.ticket && handshake.resumes {
                // An answer that was lost with an earlier connection, or one that came twice. If it answers the set
                // of a handshake, then all that was asked for before.
                self.advance(position, position)?;
                self.answer_waiting(ticket, position);
                return Ok(());
            }
            if ticket != handshake.ticket {
                return Err(CloseReason::Protocol(Violation::UnknownTicket { ticket }));
            }
            self.handshake = None;
            if !handshake.resumes {
                // Numbers of another epoch say nothing here.
                let restarted = self.position.take().is_some();
                self.account = Some(handshake.epoch);
                self.accounted = 0;
                self.stats.accounts += 1;
                if restarted {
                    self.inbox.push(EventKind::Restarted { epoch: handshake.epoch, from: position });
                }
            }
            self.advance(position, position)?;
            self.inbox.push(EventKind::Subscribed { ticket: 0, position });
            // Whatever was asked for before the handshake is part of the set that it sent.
            self.answer_waiting(handshake.ticket, position);
            return Ok(());
        }
        let Ok(index) = self.waiting.binary_search(&ticket) else {
            return Err(CloseReason::Protocol(Violation::UnknownTicket { ticket }));
        };
        self.waiting.remove(index);
        self.advance(position, position)?;
        self.inbox.push(EventKind::Subscribed { ticket, position });
        Ok(())
    }
}

/// Connection events kept for a watcher who does not come.
const MOST_NOTICES: usize = 64;

/// Bytes of prefixes in one Subscribe frame: well below the smallest frame limit.
const REGION_BYTES: usize = 2 * 1024;

fn check_len(prefix: &str) -> Result<(), SubscribeError> {
    if prefix.len() > MAX_NAME_BYTES {
        return Err(SubscribeError::TooLong { len: prefix.len(), limit: MAX_NAME_BYTES });
    }
    Ok(())
}

impl ClientRole for Subscriber {
    fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn dialer_mut(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    fn handle_established(&mut self, _now: Instant, welcome: Welcome, _before: Option<u64>) {
        let next_seq = self.position.filter(|_| self.account == Some(welcome.epoch));
        if next_seq.is_some() && !welcome.known {
            // The server lost its record of us, and counts from the end of the gap on.
            self.accounted = 0;
        }
        let start = match next_seq {
            Some(next_seq) => Start::Resume { next_seq, accounted: self.accounted },
            None => Start::Fresh,
        };
        self.changes.clear();
        let ticket = self.send_set(start);
        self.handshake = Some(Handshake { ticket, epoch: welcome.epoch, resumes: next_seq.is_some() });
        self.dialer.wake();
    }

    fn handle_frame(&mut self, _now: Instant, frame: Frame<'_>) -> Result<(), CloseReason> {
        let unexpected = CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() });
        match frame {
            Frame::Publish { header, data } => {
                // Before the set is in force, only an account that goes on may bring something.
                if self.begins_anew() {
                    return Err(unexpected);
                }
                self.advance(header.seq, header.seq.saturating_add(1))?;
                self.stats.received += 1;
                self.accounted = self.accounted.saturating_add(1);
                self.inbox.push_message(header.seq, header.topic, data);
                Ok(())
            }
            Frame::Gap(gap) => {
                if self.begins_anew() {
                    return Err(unexpected);
                }
                // Where the gap begins says little: a heartbeat may have carried us further meanwhile.
                self.advance(gap.after, gap.after)?;
                match gap.lost {
                    Lost::Exact(0) | Lost::AtMost(0) => {
                        self.inbox.push(EventKind::Position(gap.after));
                        return Ok(());
                    }
                    Lost::Exact(lost) => {
                        self.stats.lost = self.stats.lost.saturating_add(lost);
                        self.accounted = self.accounted.saturating_add(lost);
                    }
                    Lost::AtMost(lost) => {
                        self.stats.lost_at_most = self.stats.lost_at_most.saturating_add(lost);
                        self.stats.accounts += 1;
                        self.accounted = 0;
                    }
                }
                self.inbox.push(EventKind::Lost { before: gap.before, after: gap.after, lost: gap.lost });
                Ok(())
            }
            Frame::Heartbeat(heartbeat) => {
                // Before the set is in force there is no position to speak of.
                if self.handshake.is_none() {
                    self.advance(heartbeat.position, heartbeat.position)?;
                    self.inbox.push(EventKind::Position(heartbeat.position));
                }
                Ok(())
            }
            Frame::Subscribed(subscribed) => self.handle_subscribed(subscribed),
            _ => Err(unexpected),
        }
    }

    fn handle_lost(&mut self, _now: Instant, _begun: Option<u64>) {
        self.handshake = None;
        self.changes.clear();
    }

    fn render(&mut self, _now: Instant) {
        let Some(session) = self.dialer.session_mut() else { return };
        for (ticket, prefix, add) in core::mem::take(&mut self.changes) {
            let mut region = Vec::new();
            Prefixes::push(&mut region, &prefix).expect("prefixes are checked when they are added");
            let prefixes = Prefixes::from_bytes(&region).expect("built from whole prefixes");
            session.send_control(&if add {
                Frame::Subscribe(Subscribe { ticket, snapshot: false, start: None, prefixes })
            } else {
                Frame::Unsubscribe(Unsubscribe { ticket, prefixes })
            });
        }
    }

    fn gather(&mut self, _now: Instant, _chunk: &mut Chunk) {}

    fn handle_fates(&mut self, _now: Instant, _chunk: &Chunk, _written: usize, _lost: bool) {}

    fn handle_role_timeout(&mut self, _now: Instant) {}

    fn poll_role_timeout(&self) -> Option<Instant> {
        None
    }

    fn after_input(&mut self) {
        while let Some(event) = self.dialer.events.pop_front() {
            if self.notices.len() >= MOST_NOTICES {
                self.notices.pop_front();
            }
            self.notices.push_back(event.clone());
            self.inbox.push(EventKind::Connection(Box::<ConnectionEvent>::from(event)));
        }
    }

    fn lag(&self) -> Lag {
        let (waiting, most) = (self.inbox.size() as u64, self.dialer.limits().inbox_bytes);
        if waiting < most {
            Lag::None
        } else if waiting < most.saturating_mul(2) {
            Lag::Behind
        } else {
            Lag::FarBehind
        }
    }

    fn handle_paused(&mut self) {
        self.stats.pauses += 1;
    }

    fn handle_poisoned_role(&mut self, _now: Instant) {
        self.stopped = true;
        self.after_input();
    }
}

#[cfg(test)]
mod tests;
