//! The accepting side: connections in every stage, and the two roles that serve them.
//!
//! It does the handshake, keeps every clock, and gives each frame to the role that it is for. What it does not do:
//! run functions (it says which are asked for, see [`Server::poll_event`]) and touch sockets.

mod ceiling;
mod clocks;
mod ends;
mod frames;
mod machine;
mod records;
mod streams;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::admission::Admission;
use super::peers::{Peers, RecordId};
use super::publisher::{Budget, PublishError, Published, PublisherStats, StreamId, StreamOptions};
use super::received::Received;
use super::replier::{NotStarted, Payload, Replier, ReplierStats, Ticket, Work, ANSWER_FRONT_BYTES};
use super::{Action, Buffers, ConnId};
use crate::session::{CloseReason, Limits, Session};
use crate::time::Instant;
use crate::wire::{ByeCode, Refusal, Role, SessionId, Status};
pub use ceiling::MemoryCeiling;
use records::Record;
use streams::Streams;

/// Which roles a server plays; whoever wants another one is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Answers calls.
    Replier,
    /// Publishes.
    Publisher,
    /// Both, at one address.
    Both,
}

impl Roles {
    fn serve(self, role: Role) -> bool {
        match self {
            Roles::Replier => role == Role::Requester,
            Roles::Publisher => role == Role::Subscriber,
            Roles::Both => true,
        }
    }
}

/// What happened at a server that its user wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A call is to be started.
    Work(Work),
    /// A client finished its handshake.
    Joined {
        /// The connection.
        conn: ConnId,
        /// Where it comes from.
        peer: SocketAddr,
        /// Whether it subscribes (true) or calls.
        subscriber: bool,
    },
    /// A connection ended; also one that never finished its handshake.
    Left {
        /// The connection.
        conn: ConnId,
        /// Where it came from.
        peer: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
}

/// What a server counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections at this moment.
    pub connections: u64,
    /// Connections in their handshake at this moment.
    pub half_open: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused because there was no room.
    pub refused: u64,
    /// Handshakes finished.
    pub welcomed: u64,
    /// Connections ended because the peer broke the protocol.
    pub protocol_errors: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes written.
    pub sent_bytes: u64,
    /// The replying role.
    pub replier: ReplierStats,
    /// The main stream; [`Server::stream_stats`] has the others.
    pub publisher: PublisherStats,
}

/// A server: see the module's page.
#[derive(Debug)]
pub struct Server {
    roles: Roles,
    epoch: u64,
    /// Every connection refers to them.
    limits: Arc<Limits>,
    peers: Peers<Peer>,
    /// Connections in their handshake, oldest first.
    half_open: VecDeque<ConnId>,
    /// The record of each session that has a connection, or had one not long ago.
    sessions: BTreeMap<SessionId, RecordId>,
    /// The calls of each requester and the place of each subscriber, connected or not.
    records: Peers<Record>,
    /// Records without a connection: when they are forgotten, oldest first.
    detached: BTreeSet<(Instant, RecordId)>,
    /// The last moment that was handed in.
    now: Instant,
    /// When to look at which peer's timers. A peer's entry is never later than its earliest timer.
    timers: BTreeSet<(Instant, ConnId)>,
    replier: Replier,
    streams: Streams,
    /// What all streams and subscribers take together.
    budget: Budget,
    admission: Admission,
    buffers: Buffers,
    /// Bytes of begun frames kept by all connections together.
    rest_bytes: u64,
    wall_clock_ns: u64,
    stopping: bool,
    actions: VecDeque<Action>,
    events: VecDeque<ServerEvent>,
    stats: ServerStats,
}

#[derive(Debug)]
struct Peer {
    session: Session,
    /// What it serves; none before the handshake and after the end.
    record: Option<RecordId>,
    addr: SocketAddr,
    /// Nothing to write was found at the last look; the next thing to write is announced by an action.
    idle: bool,
    /// The moment under which it stands in `timers`.
    armed: Instant,
    /// Why it is being closed, where its end will not say so itself.
    ending: Option<Box<CloseReason>>,
    /// Bytes that the admission holds for its unfinished frame.
    admitted: u64,
    /// Its unfinished frame waits for room: it is not read from.
    waits: bool,
}

impl Server {
    /// A server with nobody connected. `epoch` and `seed` are random bits: the one names this life of the server, the
    /// other keeps peers from choosing topics that collide in the index.
    ///
    /// # Panics
    /// If the limits are not valid (see [`Limits::validate`]); the caller's mistake.
    pub fn new(roles: Roles, limits: Limits, epoch: u64, seed: u64) -> Self {
        if let Err(error) = limits.validate() {
            panic!("invalid limits: {error}");
        }
        Server {
            roles,
            epoch,
            peers: Peers::new(),
            half_open: VecDeque::new(),
            sessions: BTreeMap::new(),
            records: Peers::new(),
            detached: BTreeSet::new(),
            now: Instant::ZERO,
            timers: BTreeSet::new(),
            replier: Replier::new(&limits),
            streams: Streams::new(&limits, seed),
            budget: Budget::new(&limits),
            admission: Admission::new(limits.partial_frames_bytes),
            buffers: Buffers::default(),
            rest_bytes: 0,
            wall_clock_ns: 0,
            stopping: false,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            stats: ServerStats::default(),
            limits: Arc::new(limits),
        }
    }

    // Commands.

    /// Publishes on the main stream, see [`Server::publish_on`].
    ///
    /// # Errors
    /// As for [`Server::publish_on`].
    pub fn publish(&mut self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        self.publish_on(StreamId::MAIN, topic, data)
    }

    /// Takes the arguments of a call to run its function; from here on it has run.
    ///
    /// # Errors
    /// It is not to be started, and why.
    pub fn start(&mut self, now: Instant, ticket: Ticket) -> Result<Received, NotStarted> {
        let record = self.records.get_mut(ticket.record.0).ok_or(NotStarted::Withdrawn)?;
        let (conn, max_frame) = (record.conn, record.max_frame);
        let table = record.table().ok_or(NotStarted::Withdrawn)?;
        let started = self.replier.start(now, table, ticket.id, max_frame);
        if started == Err(NotStarted::Expired) {
            self.wake_conn(conn);
        }
        started
    }

    /// Takes the arguments of a call back that has run, so that the next one's need no memory of their own. Whoever does
    /// without it loses nothing else.
    pub fn give_back(&mut self, arguments: Received) {
        self.replier.give_back(arguments);
    }

    /// Swaps a small buffer for one of the last large messages, if there is one: for an answer that is yet to be
    /// encoded, see [`Server::reply_in_place`].
    pub fn lend_for_answer(&mut self, buffer: &mut Vec<u8>) {
        self.replier.lend_for_answer(buffer);
    }

    /// Answers a call. A second answer is dropped. Returns whether anybody waits for this one.
    pub fn reply(&mut self, ticket: Ticket, status: Status, payload: &[u8]) -> bool {
        self.reply_with(ticket, status, Payload::Borrowed(payload))
    }

    /// The same with a payload that lies in a buffer behind [`ANSWER_FRONT_BYTES`] of room, whatever
    /// is there. A large result (above 32 KiB, or a thirty-second of `results_bytes`) is written from there, without a copy. A large
    /// buffer is kept in any case, and an empty one left in its place.
    ///
    /// # Panics
    /// If the buffer is shorter than the room.
    pub fn reply_in_place(&mut self, ticket: Ticket, status: Status, buffer: &mut Vec<u8>) -> bool {
        assert!(buffer.len() >= ANSWER_FRONT_BYTES, "there is no room in front of the answer");
        let waited_for = self.reply_with(ticket, status, Payload::InPlace(buffer));
        self.replier.keep_large(buffer);
        waited_for
    }

    fn reply_with(&mut self, ticket: Ticket, status: Status, payload: Payload<'_>) -> bool {
        let closing =
            |conn| self.peers.get(conn).is_some_and(|peer: &Peer| !peer.session.takes_role_frames());
        let record = self.records.get_mut(ticket.record.0).filter(|record| !record.conn.is_some_and(closing));
        let ends = record.as_ref().map(|record| (record.conn, record.max_frame));
        let (Some((conn, max_frame)), Some(table)) = (ends, record.and_then(Record::table)) else {
            self.replier.stats.dropped_results += 1;
            return false;
        };
        let waited_for = self.replier.reply(table, ticket.id, status, payload, max_frame);
        if waited_for {
            self.wake_conn(conn);
        }
        waited_for
    }

    /// Ends all connections in good order: what has not started is answered so, what is unsent is sent, then Bye;
    /// all within `linger`. From here on nobody is let in.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.streams.stop();
        for conn in self.peers.ids() {
            let Some(peer) = self.peers.get_mut(conn) else { continue };
            let max_frame = peer.session.peer_max_frame();
            let record = peer.record.and_then(|record| self.records.get_mut(record.0));
            if let Some(table) = record.and_then(Record::table) {
                self.replier.refuse_queued(table, Refusal::ShuttingDown, max_frame);
            }
            if peer.session.is_greeting() {
                self.drop_peer(conn, CloseReason::ByUs);
                continue;
            }
            if peer.session.is_established() {
                peer.session.close(now, ByeCode::Stopped, "the server is stopping");
                peer.ending = Some(Box::new(CloseReason::ByUs));
            }
            self.part(conn);
        }
        // Nobody can come back for the others: this life ends.
        while let Some((_, record)) = self.detached.pop_first() {
            self.forget(record);
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    // Looking.

    /// Nothing waits to be written: what is left of closing connections is their peers' part.
    pub fn is_flushed(&mut self) -> bool {
        let waiting = |peer: &Peer| !peer.idle || peer.session.unsent_len() > 0 || peer.session.is_lent();
        !self.peers.iter_mut().any(|(_, peer)| waiting(peer))
    }

    /// It was stopped: nobody is let in any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.peers.len() == 0
    }

    /// This life of the server.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The sequence number of the main stream's next publication.
    pub fn head(&self) -> u64 {
        self.streams.main().head()
    }

    /// What has been counted so far.
    pub fn stats(&mut self) -> ServerStats {
        let publisher = self.stream_stats(StreamId::MAIN).unwrap_or_default();
        ServerStats {
            connections: self.peers.len() as u64,
            half_open: self.half_open.len() as u64,
            replier: self.replier.stats,
            publisher,
            ..self.stats
        }
    }
}

/// Announces that a peer has something to write, if it was idle.
fn wake(conn: ConnId, peer: &mut Peer, actions: &mut VecDeque<Action>) {
    if core::mem::take(&mut peer.idle) {
        actions.push_back(Action::Transmit(conn));
    }
}

#[cfg(test)]
mod tests;
