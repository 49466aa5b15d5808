//! The accepting side: connections in every stage, and the two roles that serve them.
//!
//! It does the handshake, keeps every clock, and gives each frame to the role that it is for. What it does not do:
//! run functions (it says which are asked for, see [`Server::poll_event`]) and touch sockets.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::admission::Admission;
use super::follower::Follower;
use super::peers::{Peers, RecordId};
use super::set::PrefixSet;
use super::publisher::{PublishError, Published, Publisher, PublisherStats};
use super::replier::{CallTable, NotStarted, Replier, ReplierStats, Ticket, Work};
use super::{Action, Buffers, ConnId, DialError, Machine};
use crate::session::{Chunk, CloseReason, LimitReached, Limits, Session, Side, StreamEnd, Taken, Violation};
use crate::time::Instant;
use crate::wire::{
    self, ByeCode, Frame, Heartbeat, Hello, Refusal, RejectCode, Role, SessionId, Status, Subscribe,
    Unsubscribe, Welcome, HANDSHAKE_MAX_FRAME,
};

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
    /// The publishing role.
    pub publisher: PublisherStats,
}

/// A server: see the module's page.
#[derive(Debug)]
pub struct Server {
    roles: Roles,
    epoch: u64,
    limits: Limits,
    peers: Peers<Peer>,
    /// Connections in their handshake, oldest first.
    half_open: VecDeque<ConnId>,
    /// What is known of each session that has a connection, or had one not long ago.
    sessions: BTreeMap<SessionId, Known>,
    /// The calls of each requester and the place of each subscriber, connected or not.
    records: Peers<Record>,
    /// Records without a connection: when they are forgotten, oldest first.
    detached: BTreeSet<(Instant, SessionId)>,
    /// The last moment that was handed in.
    now: Instant,
    /// When to look at which peer's timers. A peer's entry is never later than its earliest timer.
    timers: BTreeSet<(Instant, ConnId)>,
    replier: Replier,
    publisher: Publisher,
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
    /// Whose session the role serves. Invariant: `Some` exactly while the role is decided.
    session_id: Option<SessionId>,
    /// Why it is being closed, where its end will not say so itself.
    ending: Option<CloseReason>,
    /// Bytes that the admission holds for its unfinished frame.
    admitted: u64,
    /// Its unfinished frame waits for room: it is not read from.
    waits: bool,
}

/// A session, as the fence and the resume see it.
#[derive(Debug)]
struct Known {
    /// The connection that serves it.
    conn: Option<ConnId>,
    /// The newest attempt seen.
    attempt: u64,
    /// Its calls, or its place in the log.
    record: RecordId,
    /// When it is forgotten. Invariant: stands in `detached` exactly while there is no connection.
    forget_at: Instant,
}

/// What is kept of one session, and where its frames go.
#[derive(Debug)]
struct Record {
    role: RecordRole,
    conn: Option<ConnId>,
    /// The largest frame that the client accepts.
    max_frame: u32,
}

#[derive(Debug)]
enum RecordRole {
    Requester(CallTable),
    Subscriber(Follower),
}

impl Record {
    fn table(&mut self) -> Option<&mut CallTable> {
        match &mut self.role {
            RecordRole::Requester(table) => Some(table),
            RecordRole::Subscriber(_) => None,
        }
    }

    fn follower(&mut self) -> Option<&mut Follower> {
        match &mut self.role {
            RecordRole::Subscriber(follower) => Some(follower),
            RecordRole::Requester(_) => None,
        }
    }
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
            publisher: Publisher::new(&limits, seed),
            admission: Admission::new(limits.partial_frames_bytes),
            buffers: Buffers::default(),
            rest_bytes: 0,
            wall_clock_ns: 0,
            stopping: false,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            stats: ServerStats::default(),
            limits,
        }
    }

    // Commands.

    /// Publishes: numbers the data, stores it if it matches anybody, and announces what there is to write.
    ///
    /// # Errors
    /// The topic or the data is too long, or the server is stopping; no sequence number was used.
    pub fn publish(&mut self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        if self.stopping {
            return Err(PublishError::Stopped);
        }
        let longest = self.publisher.longest();
        let (peers, records, actions) = (&mut self.peers, &mut self.records, &mut self.actions);
        let published = self.publisher.publish(topic, data, |log, slot, place| {
            let Some((_, record)) = records.in_slot(slot) else { return 0 };
            let conn = record.conn;
            let Some(follower) = record.follower() else { return 0 };
            let grown = match place {
                Some(place) => follower.handle_match(place, log),
                None => {
                    follower.quiet = false;
                    0
                }
            };
            if let Some((conn, peer)) = conn.and_then(|conn| Some((conn, peers.get_mut(conn)?))) {
                wake(conn, peer, actions);
            }
            grown
        })?;
        if self.publisher.longest() > longest {
            self.put_out_small_readers();
        }
        if let Some(above) = self.publisher.positions_to_shed_above() {
            self.shed_positions(above);
        }
        Ok(published)
    }

    /// Takes the arguments of a call to run its function; from here on it has run.
    ///
    /// # Errors
    /// It is not to be started, and why.
    pub fn start(&mut self, now: Instant, ticket: Ticket) -> Result<Vec<u8>, NotStarted> {
        let record = self.records.get_mut(ticket.record.0).ok_or(NotStarted::Withdrawn)?;
        let (conn, max_frame) = (record.conn, record.max_frame);
        let table = record.table().ok_or(NotStarted::Withdrawn)?;
        let started = self.replier.start(now, table, ticket.id, max_frame);
        if started == Err(NotStarted::Expired) {
            self.wake_conn(conn);
        }
        started
    }

    /// Answers a call. A second answer is dropped. Returns whether anybody waits for this one.
    pub fn reply(&mut self, ticket: Ticket, status: Status, payload: &[u8]) -> bool {
        let closing = |conn| self.peers.get(conn).is_some_and(|peer: &Peer| !peer.session.takes_role_frames());
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
                peer.ending = Some(CloseReason::ByUs);
            }
            self.part(conn);
        }
        // Nobody can come back for the others: this life ends.
        while let Some((_, session)) = self.detached.pop_first() {
            self.forget(session);
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

    /// The sequence number of the next publication.
    pub fn head(&self) -> u64 {
        self.publisher.head()
    }

    /// What has been counted so far.
    pub fn stats(&mut self) -> ServerStats {
        let mut publisher = self.publisher.stats();
        for (_, record) in self.records.iter_mut() {
            if let Some(follower) = record.follower() {
                publisher.sent += follower.sent;
                publisher.lost += follower.lost;
            }
        }
        ServerStats {
            connections: self.peers.len() as u64,
            half_open: self.half_open.len() as u64,
            replier: self.replier.stats,
            publisher,
            ..self.stats
        }
    }

    // Frames.

    fn handle_frame(&mut self, now: Instant, conn: ConnId, frame: Frame<'_>) -> Result<(), CloseReason> {
        let Some(peer) = self.peers.get_mut(conn) else { return Ok(()) };
        let unexpected = CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() });
        let Some(id) = peer.record else {
            let Frame::Hello(hello) = frame else { return Err(unexpected) };
            self.handle_hello(now, conn, hello);
            return Ok(());
        };
        let Some(Record { role, max_frame, .. }) = self.records.get_mut(id.0) else { return Ok(()) };
        match (role, frame) {
            (_, Frame::Bye { code, text }) => Err(crate::session::said_bye(code, text)),
            (RecordRole::Requester(table), Frame::Request { header, arguments }) => {
                let work = self.replier.handle_request(now, table, id, header, arguments, *max_frame);
                match work.map_err(CloseReason::Protocol)? {
                    Some(work) => self.events.push_back(ServerEvent::Work(work)),
                    None => wake(conn, peer, &mut self.actions),
                }
                Ok(())
            }
            (RecordRole::Requester(table), Frame::Settle(settle)) => {
                self.replier.handle_settle(table, settle);
                Ok(())
            }
            (RecordRole::Subscriber(_), Frame::Subscribe(subscribe)) => self.handle_subscribe(conn, id, subscribe),
            (RecordRole::Subscriber(_), Frame::Unsubscribe(unsubscribe)) => {
                self.handle_unsubscribe(conn, id, unsubscribe)
            }
            _ => Err(unexpected),
        }
    }

    fn handle_hello(&mut self, now: Instant, conn: ConnId, hello: Hello<'_>) {
        self.half_open.retain(|other| *other != conn);
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if let Some((code, text)) = refusal(self.roles, self.stopping, &self.publisher, &hello) {
            peer.session.reject(now, code, text);
            let reason = CloseReason::Rejected { code, text: Box::from(text) };
            self.events.push_back(ServerEvent::Left { conn, peer: peer.addr, reason });
            self.part(conn);
            return;
        }
        if let Some(known) = self.sessions.get(&hello.session) {
            if hello.attempt <= known.attempt {
                // A dial that has been overtaken: it has no effect, least of all on the newer connection.
                return self.drop_peer(conn, CloseReason::ByUs);
            }
            if let Some(old) = known.conn {
                // The fence: nothing of the old connection takes effect once the new one is welcomed.
                self.replace(now, old);
            }
        }
        let (record, known) = self.take_up(conn, &hello);
        let Some(peer) = self.peers.get_mut(conn) else { return };
        (peer.session_id, peer.record) = (Some(hello.session), Some(record));
        let interval = u32::try_from(self.limits.heartbeat_interval.as_millis()).unwrap_or(u32::MAX);
        let welcome = Welcome::new(self.epoch, known, interval, self.limits.max_frame_bytes);
        peer.session.establish(now, hello.max_frame);
        peer.session.send_control(&Frame::Welcome(welcome));
        let subscriber = hello.role == Role::Subscriber;
        if !subscriber {
            // The first frame behind the handshake tells the client that it is served, not only let in.
            let heartbeat = Heartbeat { wall_clock_ns: self.wall_clock_ns, position: 0 };
            peer.session.send_control(&Frame::Heartbeat(heartbeat));
        }
        self.stats.welcomed += 1;
        self.events.push_back(ServerEvent::Joined { conn, peer: peer.addr, subscriber });
        wake(conn, peer, &mut self.actions);
    }

    /// The session has this connection from here on. Returns its record, and whether it is one that was kept.
    fn take_up(&mut self, conn: ConnId, hello: &Hello<'_>) -> (RecordId, bool) {
        let max_frame = hello.max_frame.min(self.limits.max_frame_bytes);
        let kept = self.sessions.get(&hello.session).map(|known| (known.record, known.forget_at));
        let mut found = None;
        if let Some((id, forget_at)) = kept {
            self.detached.remove(&(forget_at, hello.session));
            match (self.records.get_mut(id.0).map(|record| &mut record.role), hello.role) {
                (Some(RecordRole::Requester(table)), Role::Requester) => {
                    self.replier.resume(table);
                    found = Some(id);
                }
                (Some(RecordRole::Subscriber(follower)), Role::Subscriber) => {
                    follower.incoming = Some(PrefixSet::default());
                    found = Some(id);
                }
                // The same session in another role: that one is over.
                _ => self.forget(hello.session),
            }
        }
        let id = found.unwrap_or_else(|| {
            let role = match hello.role {
                Role::Requester => RecordRole::Requester(CallTable::default()),
                Role::Subscriber => RecordRole::Subscriber(Follower::new()),
            };
            RecordId(self.records.insert(Record { role, conn: None, max_frame }))
        });
        if let Some(record) = self.records.get_mut(id.0) {
            (record.conn, record.max_frame) = (Some(conn), max_frame);
        }
        let known = Known { conn: Some(conn), attempt: hello.attempt, record: id, forget_at: Instant::NEVER };
        self.sessions.insert(hello.session, known);
        (id, found.is_some())
    }

    /// A session is forgotten, with what has not started of its calls, or with its place in the log.
    fn forget(&mut self, session: SessionId) {
        let Some(known) = self.sessions.remove(&session) else { return };
        match self.records.remove(known.record.0).map(|record| record.role) {
            Some(RecordRole::Requester(mut table)) => self.replier.leave(&mut table),
            Some(RecordRole::Subscriber(mut follower)) => {
                self.publisher.leave(&mut follower, known.record.0.slot());
            }
            None => {}
        }
    }

    /// A session has lost its connection. Its record is kept for a while: what has not started of its calls still
    /// runs, and what matches its set still counts. A record lives whole or not at all.
    fn detach(&mut self, session: SessionId) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        let Some(record) = self.records.get_mut(known.record.0) else { return };
        (known.conn, record.conn) = (None, None);
        known.forget_at = self.now + self.limits.session_keep;
        self.detached.insert((known.forget_at, session));
        if let RecordRole::Subscriber(follower) = &mut record.role {
            self.publisher.detach(follower);
            if !follower.has_begun() {
                self.detached.remove(&(known.forget_at, session));
                return self.forget(session);
            }
        }
        while self.detached.len() > self.limits.max_detached as usize {
            let Some((_, oldest)) = self.detached.pop_first() else { break };
            self.forget(oldest);
        }
    }

    fn handle_subscribe(
        &mut self,
        conn: ConnId,
        id: RecordId,
        subscribe: Subscribe<'_>,
    ) -> Result<(), CloseReason> {
        let publisher = &mut self.publisher;
        let Some(follower) = self.records.get_mut(id.0).and_then(Record::follower) else { return Ok(()) };
        publisher
            .subscribe(follower, id.0.slot(), subscribe.prefixes)
            .map_err(CloseReason::Limit)?
            .map_err(CloseReason::Protocol)?;
        let mut gap = None;
        match (follower.incoming.is_some(), subscribe.start) {
            // The set is not complete yet: one answer for all of it, at its end.
            (true, None) => return Ok(()),
            (true, Some(start)) => {
                gap = publisher.complete(follower, id.0.slot(), start).map_err(CloseReason::Protocol)?;
            }
            (false, None) => {}
            (false, Some(_)) => {
                return Err(CloseReason::Protocol(Violation::Unexpected { kind: wire::Kind::Subscribe }));
            }
        }
        follower.acknowledge(subscribe.ticket, publisher.log(), publisher.head());
        if let Some(peer) = self.peers.get_mut(conn) {
            if let Some(gap) = gap {
                peer.session.send_control(&Frame::Gap(gap));
            }
            wake(conn, peer, &mut self.actions);
        }
        Ok(())
    }

    fn handle_unsubscribe(
        &mut self,
        conn: ConnId,
        id: RecordId,
        unsubscribe: Unsubscribe<'_>,
    ) -> Result<(), CloseReason> {
        let Some(follower) = self.records.get_mut(id.0).and_then(Record::follower) else { return Ok(()) };
        if follower.incoming.is_some() {
            return Err(CloseReason::Protocol(Violation::Unexpected { kind: wire::Kind::Unsubscribe }));
        }
        self.publisher
            .unsubscribe(follower, id.0.slot(), unsubscribe.prefixes)
            .map_err(CloseReason::Protocol)?;
        follower.acknowledge(unsubscribe.ticket, self.publisher.log(), self.publisher.head());
        self.wake_conn(Some(conn));
        Ok(())
    }

    // Ends.

    /// Ends a connection for a reason of ours or the peer's: politely where there is somebody to be polite to.
    fn end(&mut self, now: Instant, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if matches!(reason, CloseReason::Protocol(_)) {
            self.stats.protocol_errors += 1;
        }
        match &reason {
            CloseReason::Protocol(Violation::Bytes(wire::Error::Version { .. })) if peer.session.is_greeting() => {
                peer.session.reject(now, RejectCode::Version, &format!("version {} is spoken here", wire::VERSION));
            }
            // A stranger is owed no answer.
            CloseReason::Protocol(_) if peer.session.is_greeting() => return self.drop_peer(conn, reason),
            CloseReason::Protocol(violation) => {
                peer.session.abort(now, ByeCode::Protocol, &format!("{violation}"));
            }
            CloseReason::Limit(limit) => peer.session.abort(now, ByeCode::Limit, &format!("{limit}")),
            CloseReason::ByPeer { .. } => peer.session.close_silently(now),
            _ => return self.drop_peer(conn, reason),
        }
        self.leave(conn, reason);
        self.part(conn);
    }

    /// A newer connection of the same session has come: the old one ends, with all bytes of it that are not decoded.
    fn replace(&mut self, now: Instant, old: ConnId) {
        if let Some(peer) = self.peers.get_mut(old) {
            peer.session.abort(now, ByeCode::Replaced, "a newer connection of this session has come");
            self.leave(old, CloseReason::Replaced);
            self.part(old);
        }
    }

    /// The connection is on its way out: what is left is written, and its end is waited for.
    fn part(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        wake(conn, peer, &mut self.actions);
        // It may have been paused; a closing connection is read to its end.
        self.actions.push_back(Action::Read(conn));
        self.arm(conn);
    }

    /// Announces that a connection has something to write, if there is one and it was idle.
    fn wake_conn(&mut self, conn: Option<ConnId>) {
        if let Some((conn, peer)) = conn.and_then(|conn| Some((conn, self.peers.get_mut(conn)?))) {
            wake(conn, peer, &mut self.actions);
        }
    }

    /// The connection serves no role from here on, and its user hears of it. Its calls are kept if it was lost; if it
    /// ended on purpose, they go with it.
    fn leave(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        self.half_open.retain(|other| *other != conn);
        let session = peer.session_id.take();
        peer.record = None;
        let keep = is_resumable(&reason) && !self.stopping;
        self.events.push_back(ServerEvent::Left { conn, peer: peer.addr, reason });
        let serves = |known: &Known| known.conn == Some(conn);
        if let Some(session) = session.filter(|session| self.sessions.get(session).is_some_and(serves)) {
            match keep {
                true => self.detach(session),
                false => self.forget(session),
            }
        }
    }

    /// The connection is gone.
    fn drop_peer(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let reason = peer.ending.take().unwrap_or(reason);
        if !peer.session.is_closing() || peer.record.is_some() {
            self.leave(conn, reason);
        }
        let Some(peer) = self.peers.remove(conn) else { return };
        self.timers.remove(&(peer.armed, conn));
        self.rest_bytes -= peer.session.rest_len() as u64;
        self.admission.release(peer.admitted);
        self.admission.forget(conn);
        self.actions.push_back(Action::Close(conn));
        self.read_admitted();
    }

    /// A publication was longer than any before: whoever cannot take it is put out, and says so itself.
    fn put_out_small_readers(&mut self) {
        let longest = self.publisher.longest();
        for conn in self.peers.ids() {
            let Some(peer) = self.peers.get_mut(conn) else { continue };
            let small = peer.session.peer_max_frame() < longest;
            let record = peer.record.and_then(|record| self.records.get_mut(record.0));
            if small && record.and_then(Record::follower).is_some() {
                self.drop_peer(conn, CloseReason::Limit(LimitReached::PeerFrame { needed: longest }));
            }
        }
    }

    /// The memory of places in the log is above its budget: whoever has many gives up the older half.
    fn shed_positions(&mut self, above: u64) {
        for (_, record) in self.records.iter_mut() {
            let Some(follower) = record.follower() else { continue };
            if follower.positions() > above {
                let grown = follower.drop_older_half();
                self.publisher.note_positions(grown);
            }
        }
    }

    // Clocks and room.

    /// Sees to it that the peer's earliest timer is not missed.
    fn arm(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let Some((due, _)) = peer.session.poll_timeout() else { return };
        if due < peer.armed {
            self.timers.remove(&(peer.armed, conn));
            self.timers.insert((due, conn));
            peer.armed = due;
        }
    }

    fn fire(&mut self, now: Instant, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        peer.armed = Instant::NEVER;
        match peer.session.handle_timeout(now) {
            Some(reason) => self.drop_peer(conn, reason),
            None => {
                if peer.session.wants_heartbeat() {
                    wake(conn, peer, &mut self.actions);
                }
                self.arm(conn);
            }
        }
    }

    /// Asks for room for the frame that a connection has begun, or gives back the room of one that has ended.
    fn admit(&mut self, conn: ConnId, ended: bool) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if ended {
            self.admission.release(core::mem::take(&mut peer.admitted));
            if core::mem::take(&mut peer.waits) {
                // Bytes that were on their way already have ended the frame that waited.
                self.admission.forget(conn);
            }
        }
        if let (0, false, Some(len)) = (peer.admitted, peer.waits, peer.session.announced_len()) {
            if self.admission.admit(conn, len) {
                peer.admitted = len;
            } else {
                peer.waits = true;
            }
        }
        self.read_admitted();
    }

    fn read_admitted(&mut self) {
        while let Some((conn, len)) = self.admission.poll_admitted() {
            let Some(peer) = self.peers.get_mut(conn) else {
                self.admission.release(len);
                continue;
            };
            peer.admitted = len;
            peer.waits = false;
            self.steer(conn);
        }
    }

    /// Pauses or resumes reading from a connection: one whose frame waits for room, or that asks for more than it
    /// takes answers for, is left to its kernel.
    fn steer(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let record = peer.record.and_then(|record| self.records.get_mut(record.0));
        let acks = record.and_then(Record::follower).map_or(0, |follower| follower.waiting_acks());
        let pause = peer.waits || acks > MOST_ACKS || peer.session.control_len() > MOST_CONTROL_BYTES;
        match (peer.session.is_paused(), pause) {
            (false, true) => peer.session.pause(),
            (true, false) => {
                peer.session.unpause();
                self.actions.push_back(Action::Read(conn));
            }
            _ => {}
        }
    }

    /// Writes down what goes first, and gathers behind it what the role has.
    fn gather(&mut self, now: Instant, conn: ConnId) -> Option<Chunk> {
        let peer = self.peers.get_mut(conn)?;
        if peer.session.is_lent() {
            return None;
        }
        let publisher = &mut self.publisher;
        let mut record = peer.record.and_then(|record| self.records.get_mut(record.0));
        if peer.session.begun().is_none() {
            let heartbeat = peer.session.poll_heartbeat(now);
            match record.as_mut().map(|record| &mut record.role) {
                Some(RecordRole::Subscriber(follower)) if peer.session.takes_role_frames() => {
                    let grown = follower.render(&mut peer.session, publisher.log(), publisher.head());
                    publisher.note_positions(grown);
                    if heartbeat {
                        follower.render_heartbeat(
                            &mut peer.session,
                            publisher.log(),
                            publisher.head(),
                            self.wall_clock_ns,
                        );
                    }
                }
                _ if heartbeat => {
                    let heartbeat = Heartbeat { wall_clock_ns: self.wall_clock_ns, position: 0 };
                    peer.session.send_control(&Frame::Heartbeat(heartbeat));
                }
                _ => {}
            }
        }
        let mut chunk = match peer.session.take(self.buffers.take()) {
            Err(buffer) => {
                self.buffers.put(buffer);
                return None;
            }
            Ok(Taken::Rest(chunk, buffer)) => {
                self.rest_bytes -= chunk.bytes().len() as u64;
                self.buffers.put(buffer);
                return Some(chunk);
            }
            Ok(Taken::Fresh(chunk)) => chunk,
        };
        if peer.session.takes_role_frames() && chunk.accepts_frames() {
            match record.map(|record| &mut record.role) {
                None => {}
                Some(RecordRole::Requester(table)) => {
                    if let Some(buffer) = self.replier.take(table, &mut chunk) {
                        self.buffers.put(buffer);
                    }
                }
                Some(RecordRole::Subscriber(follower)) => follower.take(&mut chunk, publisher.log()),
            }
        }
        if !chunk.bytes().is_empty() {
            return Some(chunk);
        }
        let buffer = peer.session.untake(chunk);
        self.buffers.put(buffer);
        if peer.session.is_closing() && peer.session.takes_role_frames() {
            // The role has nothing more: the last words.
            peer.session.say_farewell();
            return self.gather(now, conn);
        }
        None
    }
}

/// Answers to Subscribe and Unsubscribe that may wait for a subscriber before it is no longer read from.
const MOST_ACKS: usize = 1_024;
/// Bytes of control frames that may wait for a peer before it is no longer read from.
const MOST_CONTROL_BYTES: usize = 64 * 1024;

/// Whether a session may come back after its connection ended for this reason: it was lost, not closed.
fn is_resumable(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::StreamLost(_)
            | CloseReason::NotReading
            | CloseReason::Replaced
            | CloseReason::FrameStalled { .. }
            | CloseReason::Limit(LimitReached::SendQueues { .. })
    )
}

/// Announces that a peer has something to write, if it was idle.
fn wake(conn: ConnId, peer: &mut Peer, actions: &mut VecDeque<Action>) {
    if core::mem::take(&mut peer.idle) {
        actions.push_back(Action::Transmit(conn));
    }
}

/// Why a client is not let in, if it is not.
fn refusal(
    roles: Roles,
    stopping: bool,
    publisher: &Publisher,
    hello: &Hello<'_>,
) -> Option<(RejectCode, &'static str)> {
    if stopping {
        Some((RejectCode::ShuttingDown, "the server is stopping"))
    } else if !roles.serve(hello.role) {
        Some((RejectCode::Role, "this role is not served at this address"))
    } else if !hello.stream.is_empty() {
        Some((RejectCode::UnknownStream, "there is only the main stream"))
    } else if hello.max_frame < HANDSHAKE_MAX_FRAME {
        Some((RejectCode::FrameLimit, "your frame limit is below 4096 bytes, which the handshake needs"))
    } else if hello.role == Role::Subscriber && hello.max_frame < publisher.longest() {
        Some((RejectCode::FrameLimit, "publications of this stream are longer than your frame limit"))
    } else {
        None
    }
}

impl Machine for Server {
    fn handle_accepted(&mut self, now: Instant, peer: SocketAddr) -> Option<ConnId> {
        self.stats.accepted += 1;
        if self.stopping || self.peers.len() >= self.limits.max_connections as usize {
            self.stats.refused += 1;
            return None;
        }
        if self.half_open.len() >= self.limits.max_half_open as usize {
            if let Some(oldest) = self.half_open.pop_front() {
                self.drop_peer(oldest, CloseReason::Limit(LimitReached::HalfOpen));
            }
        }
        let conn = self.peers.insert(Peer {
            session: Session::new(now, Side::Server, &self.limits),
            record: None,
            addr: peer,
            idle: true,
            armed: Instant::NEVER,
            session_id: None,
            ending: None,
            admitted: 0,
            waits: false,
        });
        self.half_open.push_back(conn);
        self.arm(conn);
        Some(conn)
    }

    fn handle_connected(&mut self, _now: Instant, _conn: ConnId) {}

    fn handle_dial_failed(&mut self, _now: Instant, _conn: ConnId, _error: DialError) {}

    fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        self.now = now;
        self.stats.received_bytes += bytes.len() as u64;
        peer.session.handle_heard();
        let mut deframer = peer.session.lend_deframer();
        let mut input = bytes;
        let mut ended = false;
        let mut broken = None;
        while let Some(peer) = self.peers.get(conn).filter(|peer| !peer.session.is_closing()) {
            let frame = match deframer.next(&mut input, peer.session.frame_limit()) {
                Ok(None) => break,
                Ok(Some(body)) => Frame::decode(body),
                Err(error) => Err(error),
            };
            ended = true;
            let handled = match frame {
                Ok(frame) => self.handle_frame(now, conn, frame),
                Err(error) => Err(CloseReason::Protocol(Violation::Bytes(error))),
            };
            if let Err(reason) = handled {
                broken = Some(reason);
                break;
            }
        }
        if let Some(peer) = self.peers.get_mut(conn) {
            if broken.is_none() && !peer.session.is_closing() {
                peer.session.return_deframer(deframer);
            }
            peer.session.handle_decoded(now, ended);
        }
        if let Some(reason) = broken {
            self.end(now, conn, reason);
        }
        self.admit(conn, ended);
        self.steer(conn);
        self.arm(conn);
    }

    fn handle_drained(&mut self, now: Instant, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.session.handle_drained(now);
        }
    }

    fn handle_closed(&mut self, now: Instant, conn: ConnId, how: StreamEnd) {
        self.now = now;
        let reason = match how {
            StreamEnd::TimedOut => CloseReason::NotReading,
            how => CloseReason::StreamLost(how),
        };
        self.drop_peer(conn, reason);
    }

    fn handle_written(&mut self, now: Instant, conn: ConnId, chunk: Chunk, written: usize) {
        self.now = now;
        self.stats.sent_bytes += written as u64;
        let Some(peer) = self.peers.get_mut(conn) else {
            self.buffers.put(chunk.into_buffer());
            return;
        };
        let record = peer.record.and_then(|record| self.records.get_mut(record.0));
        match record.map(|record| &mut record.role) {
            None => {}
            Some(RecordRole::Requester(table)) => self.replier.handle_written(table, &chunk, written),
            Some(RecordRole::Subscriber(follower)) => {
                if !chunk.is_tail() {
                    let grown = follower.handle_written(&chunk, written);
                    self.publisher.note_positions(grown);
                }
            }
        }
        let buffer = peer.session.put_back(now, chunk, written);
        self.rest_bytes += peer.session.rest_len() as u64;
        if let Some(buffer) = buffer {
            self.buffers.put(buffer);
        }
        if self.rest_bytes > self.limits.send_queues_bytes && peer.session.rest_len() > 0 {
            let limit = self.limits.send_queues_bytes;
            self.drop_peer(conn, CloseReason::Limit(LimitReached::SendQueues { limit }));
            return;
        }
        self.steer(conn);
        self.arm(conn);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some((due, session)) = self.detached.first().copied().filter(|(due, _)| *due <= now) {
            self.detached.remove(&(due, session));
            self.forget(session);
        }
        while let Some((due, conn)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, conn));
            self.fire(now, conn);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(due, _)| *due);
        let expiry = self.detached.first().map(|(due, _)| *due);
        [timer, expiry].into_iter().flatten().min()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<Chunk> {
        let chunk = self.gather(now, conn);
        if chunk.is_none() {
            let peer = self.peers.get_mut(conn)?;
            if peer.session.is_lent() {
                return None;
            }
            peer.idle = true;
            peer.session.handle_nothing_to_write();
            if let Some(id) = peer.record {
                if let Some(follower) = self.records.get_mut(id.0).and_then(Record::follower) {
                    self.publisher.sleep(follower, id.0.slot());
                }
            }
            if peer.session.poll_shutdown(now) {
                self.actions.push_back(Action::Shutdown(conn));
                self.arm(conn);
            }
        }
        chunk
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        self.peers.get(conn).is_some_and(|peer| !peer.session.is_paused())
    }

    fn handle_wall_clock(&mut self, wall_clock_ns: u64) {
        self.wall_clock_ns = wall_clock_ns;
    }

    fn handle_poisoned(&mut self, _now: Instant) {
        self.stopping = true;
        for conn in self.peers.ids() {
            self.drop_peer(conn, CloseReason::ByUs);
        }
    }
}

#[cfg(test)]
mod tests;
