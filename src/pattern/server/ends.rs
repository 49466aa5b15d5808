//! How connections end, and what goes with them.

use alloc::format;

use super::super::{Action, ConnId};
use super::{wake, PeerRole, Server, ServerEvent};
use crate::session::{CloseReason, LimitReached, Violation};
use crate::time::Instant;
use crate::wire::{self, ByeCode, RejectCode};

impl Server {
    /// Ends a connection for a reason of ours or the peer's: politely where there is somebody to be polite to.
    pub(super) fn end(&mut self, now: Instant, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if matches!(reason, CloseReason::Protocol(_)) {
            self.stats.protocol_errors += 1;
        }
        match &reason {
            CloseReason::Protocol(Violation::Bytes(wire::Error::Version { .. }))
                if peer.session.is_greeting() =>
            {
                peer.session.reject(
                    now,
                    RejectCode::Version,
                    &format!("version {} is spoken here", wire::VERSION),
                );
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
    pub(super) fn replace(&mut self, now: Instant, old: ConnId) {
        if let Some(peer) = self.peers.get_mut(old) {
            peer.session.abort(now, ByeCode::Replaced, "a newer connection of this session has come");
            self.leave(old, CloseReason::ByUs);
            self.part(old);
        }
    }

    /// The connection is on its way out: what is left is written, and its end is waited for.
    pub(super) fn part(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        wake(conn, peer, &mut self.actions);
        // It may have been paused; a closing connection is read to its end.
        self.actions.push_back(Action::Read(conn));
        self.arm(conn);
    }

    /// The connection serves no role from here on: its record goes, and its user hears of it.
    pub(super) fn leave(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        self.half_open.retain(|other| *other != conn);
        if let Some(session) = peer.session_id.take() {
            if self.sessions.get(&session).is_some_and(|(serving, _)| *serving == conn) {
                self.sessions.remove(&session);
            }
        }
        match core::mem::replace(&mut peer.role, PeerRole::Undecided) {
            PeerRole::Undecided => {}
            PeerRole::Requester(mut table) => self.replier.leave(&mut table),
            PeerRole::Subscriber(follower) => self.publisher.leave(&follower, conn.slot()),
        }
        self.events.push_back(ServerEvent::Left { conn, peer: peer.addr, reason });
    }

    /// The connection is gone.
    pub(super) fn drop_peer(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let reason = peer.ending.take().unwrap_or(reason);
        if !peer.session.is_closing() || !matches!(peer.role, PeerRole::Undecided) {
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
    pub(super) fn put_out_small_readers(&mut self) {
        let longest = self.publisher.longest();
        for conn in self.peers.ids() {
            let Some(peer) = self.peers.get_mut(conn) else { continue };
            let small = peer.session.peer_max_frame() < longest;
            if small && matches!(peer.role, PeerRole::Subscriber(_)) {
                self.drop_peer(conn, CloseReason::Limit(LimitReached::PeerFrame { needed: longest }));
            }
        }
    }

    /// The memory of places in the log is above its budget: whoever has many gives up the older half.
    pub(super) fn shed_positions(&mut self, above: u64) {
        for (_, peer) in self.peers.iter_mut() {
            let PeerRole::Subscriber(follower) = &mut peer.role else { continue };
            if follower.positions() > above {
                let grown = follower.drop_older_half();
                self.publisher.note_positions(grown);
            }
        }
    }
}
