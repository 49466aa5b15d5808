//! Timers, and room for what is not whole yet.

use super::super::{Action, ConnId};
use super::records::RecordRole;
use super::{wake, Server};
use crate::time::Instant;

impl Server {
    /// Sees to it that the peer's earliest timer is not missed.
    pub(super) fn arm(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let Some((due, _)) = peer.session.poll_timeout() else { return };
        if due < peer.armed {
            self.timers.remove(&(peer.armed, conn));
            self.timers.insert((due, conn));
            peer.armed = due;
        }
    }

    pub(super) fn fire(&mut self, now: Instant, conn: ConnId) {
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
    pub(super) fn admit(&mut self, conn: ConnId, ended: bool) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if ended {
            self.admission.release(core::mem::take(&mut peer.admitted));
            if core::mem::take(&mut peer.waits) {
                // Bytes that were on their way already have ended the frame that waited.
                self.admission.forget(conn);
            }
        }
        if let (0, false, Some(len)) = (peer.admitted, peer.waits, peer.session.announced_len()) {
            let wanted = peer.session.wanted_len();
            let lent = wanted.and_then(|len| self.replier.lend_buffer(len));
            let room = lent.as_ref().map_or(len, |buffer| len.max(buffer.capacity() as u64));
            match lent {
                Some(buffer) if self.admission.has_room(room) => {
                    self.admission.admit(conn, room);
                    peer.admitted = room;
                    peer.session.adopt(buffer);
                }
                lent => {
                    lent.into_iter().for_each(|buffer| self.replier.keep(buffer));
                    if self.admission.admit(conn, len) {
                        peer.admitted = len;
                    } else {
                        peer.waits = true;
                    }
                }
            }
        }
        self.read_admitted();
    }

    pub(super) fn read_admitted(&mut self) {
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
    pub(super) fn steer(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let record = peer.record.and_then(|record| self.records.get_mut(record.0));
        let backed_up = match record.map(|record| &mut record.role) {
            Some(RecordRole::Subscriber(follower)) => follower.waiting_acks() > MOST_ACKS,
            Some(RecordRole::Requester(table)) => table.is_backed_up(),
            None => false,
        };
        let pause =
            peer.waits || backed_up || peer.session.control_len() as u64 > self.limits.send_queue_bytes;
        match (peer.session.is_paused(), pause) {
            (false, true) => peer.session.pause(),
            (true, false) => {
                peer.session.unpause();
                self.actions.push_back(Action::Read(conn));
            }
            _ => {}
        }
    }
}

/// Answers to Subscribe and Unsubscribe that may wait for a subscriber before it is no longer read from.
const MOST_ACKS: usize = 1_024;
