//! The server as its driver sees it.

use alloc::collections::VecDeque;
use core::net::SocketAddr;

use super::super::follower::grown;
use super::super::publisher::answers_bytes;
use super::super::{earlier, Action, Buffers, ConnId, DialError, Machine};
use super::records::{Record, RecordRole};
use super::{Peer, Server};
use crate::session::{Chunk, CloseReason, LimitReached, Session, Side, StreamEnd, Taken, Violation};
use crate::time::Instant;
use crate::wire::{Frame, Heartbeat};

/// Bytes read at once while calls are refused without being entered: few enough requests to remember.
const SHORT_READ_BYTES: usize = 512;
/// Arguments do not stay behind more than this in one buffer: it is copied, and would be kept as long as they are.
const MOST_HEAD_BYTES: usize = 4 * 1024;

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
            let is_copied = !deframer.is_between_frames();
            let mut len = 0;
            let frame = match deframer.next(&mut input, peer.session.frame_limit()) {
                Ok(None) => break,
                Ok(Some(body)) => {
                    len = body.len();
                    Frame::decode(body)
                }
                Err(error) => Err(error),
            };
            ended = true;
            let handled = match frame {
                Ok(Frame::Request { arguments, .. })
                    if is_copied
                        && self.replier.is_large(arguments.len())
                        && len - arguments.len() <= MOST_HEAD_BYTES =>
                {
                    let buffer = deframer.take_copied().expect("its frame was copied");
                    self.handle_own_request(now, conn, buffer)
                }
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
            if let Some(buffer) = self.buffers.put(chunk.into_buffer()) {
                self.replier.keep(buffer);
            }
            return;
        };
        let record = peer.record.and_then(|record| self.records.get_mut(record.0));
        match record.map(|record| &mut record.role) {
            None => {}
            Some(RecordRole::Requester(table)) => self.replier.handle_written(table, &chunk, written),
            Some(RecordRole::Subscriber(_)) if chunk.is_tail() => {}
            Some(RecordRole::Subscriber(follower)) => {
                let mut grown = follower.handle_written(&chunk, written);
                if self.budget.is_scarce() && follower.pending() == 0 {
                    grown += follower.shrink();
                }
                self.budget.note_positions(grown);
            }
        }
        let buffer = peer.session.put_back(now, chunk, written);
        self.rest_bytes += peer.session.rest_memory() as u64;
        if let Some(buffer) = buffer.and_then(|buffer| self.buffers.put(buffer)) {
            self.replier.keep(buffer);
        }
        let most = self.limits.send_queues_bytes - answers_bytes(&self.limits);
        if peer.session.rest_len() > 0 && self.rest_bytes + self.streams.large_bytes() > most {
            let limit = self.limits.send_queues_bytes;
            self.drop_peer(conn, CloseReason::Limit(LimitReached::SendQueues { limit }));
            return;
        }
        self.steer(conn);
        self.arm(conn);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some((due, conn)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, conn));
            self.fire(now, conn);
        }
        if self.peers.len() == 0 {
            self.replier.release();
        }
        self.replier.age();
        while let Some((due, record)) = self.detached.first().copied().filter(|(due, _)| *due <= now) {
            self.detached.remove(&(due, record));
            self.forget(record);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(due, _)| *due);
        let expiry = self.detached.first().map(|(due, _)| *due);
        earlier(timer, expiry)
    }

    #[inline]
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
                    if let Some(publisher) = self.streams.get_mut(follower.stream) {
                        publisher.sleep(follower, id.0.slot());
                    }
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

    fn read_most(&self, conn: ConnId) -> usize {
        // Only who has calls under way can make the shortage worse: nobody else pays for it.
        let record = self.peers.get(conn).and_then(|peer| peer.record);
        let table = record.and_then(|record| self.records.get(record.0)).and_then(Record::calls);
        match self.replier.is_short() && table.is_some_and(|table| !table.is_empty()) {
            true => self.admission.read_most().min(SHORT_READ_BYTES),
            false => self.admission.read_most(),
        }
    }

    fn wants_wall_clock(&self, conn: ConnId) -> bool {
        self.peers.get(conn).is_some_and(|peer| peer.session.is_greeting())
    }

    fn handle_wall_clock(&mut self, wall_clock_ns: u64) {
        self.wall_clock_ns = wall_clock_ns;
    }

    fn handle_poisoned(&mut self, _now: Instant) {
        self.stopping = true;
        self.streams.stop();
        for conn in self.peers.ids() {
            self.drop_peer(conn, CloseReason::ByUs);
        }
    }

    fn release(&mut self) {
        self.streams.release(&self.limits);
        self.buffers = Buffers::default();
        self.replier.release();
        self.events = VecDeque::new();
    }
}

impl Server {
    /// Writes down what goes first, and gathers behind it what the role has.
    pub(super) fn gather(&mut self, now: Instant, conn: ConnId) -> Option<Chunk> {
        let peer = self.peers.get_mut(conn)?;
        if peer.session.is_lent() {
            return None;
        }
        let (streams, budget) = (&mut self.streams, &mut self.budget);
        let mut record = peer.record.and_then(|record| self.records.get_mut(record.0));
        let mut rendered = true;
        if peer.session.begun().is_none() {
            let heartbeat = peer.session.poll_heartbeat(now);
            match record.as_mut().map(|record| &mut record.role) {
                Some(RecordRole::Subscriber(follower)) if peer.session.takes_role_frames() => {
                    let publisher = streams.get(follower.stream)?;
                    let (log, head) = (publisher.log(), publisher.head());
                    let policy = publisher.policy();
                    rendered =
                        follower.render(&mut peer.session, budget, log, publisher.last(), policy, head);
                    if heartbeat {
                        follower.render_heartbeat(&mut peer.session, log, head, self.wall_clock_ns);
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
                self.rest_bytes -= chunk.memory() as u64;
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
                Some(RecordRole::Subscriber(follower)) => {
                    if let Some(publisher) = streams.get_mut(follower.stream) {
                        let held = follower.positions();
                        if rendered {
                            follower.take(&mut chunk, publisher.sources());
                        }
                        budget.note_positions(grown(held, follower.positions()));
                    }
                }
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
