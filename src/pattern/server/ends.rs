//! How connections end, and what goes with them.

use alloc::collections::VecDeque;
use alloc::format;

use super::super::publisher::{SlowPolicy, StreamId};
use super::super::{Action, ConnId};
use super::records::{is_resumable, Record};
use super::{wake, Server, ServerEvent};
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
            self.leave(old, CloseReason::Replaced);
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

    /// The connection serves no role from here on, and its user hears of it. Its calls are kept if it was lost; if it
    /// ended on purpose, they go with it.
    pub(super) fn leave(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        self.half_open.retain(|other| *other != conn);
        let record = peer.record.take();
        let keep = is_resumable(&reason) && !self.stopping;
        note(&mut self.events, ServerEvent::Left { conn, peer: peer.addr, reason });
        let serves = |record: &Record| record.conn == Some(conn);
        if let Some(id) = record.filter(|id| self.records.get(id.0).is_some_and(serves)) {
            match keep {
                true => self.detach(id),
                false => self.forget(id),
            }
        }
    }

    /// The connection is gone.
    pub(super) fn drop_peer(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let reason = peer.ending.take().map_or(reason, |ending| *ending);
        if !peer.session.is_closing() || peer.record.is_some() {
            self.leave(conn, reason);
        }
        let Some(peer) = self.peers.remove(conn) else { return };
        self.timers.remove(&(peer.armed, conn));
        self.rest_bytes -= peer.session.rest_memory() as u64;
        self.admission.release(peer.admitted);
        self.admission.forget(conn);
        self.actions.push_back(Action::Close(conn));
        self.read_admitted();
    }

    /// A publication of this stream was longer than any before: whoever cannot take it is put out, and says so itself.
    pub(super) fn put_out_small_readers(&mut self, stream: StreamId, longest: u32) {
        for conn in self.peers.ids() {
            let Some(peer) = self.peers.get_mut(conn) else { continue };
            let small = peer.session.peer_max_frame() < longest;
            let record = peer.record.and_then(|record| self.records.get_mut(record.0));
            let follower = record.and_then(Record::follower);
            if small && follower.is_some_and(|follower| follower.stream == stream) {
                self.drop_peer(conn, CloseReason::Limit(LimitReached::PeerFrame { needed: longest }));
            }
        }
    }

    /// If the memory of places in the logs is above its budget, whoever has many gives up the older half. Connected
    /// subscribers of a stream that loses nothing do not: publications wait for them.
    pub(super) fn shed_positions(&mut self) {
        if !self.budget.is_over() {
            return;
        }
        for (_, record) in self.records.iter_mut() {
            if let Some(follower) = record.follower() {
                self.budget.note_positions(follower.shrink());
            }
        }
        let Some(above) = self.budget.positions_to_shed_above(self.streams.subscribers()) else { return };
        for (_, record) in self.records.iter_mut() {
            let connected = record.conn.is_some();
            let Some(follower) = record.follower() else { continue };
            if follower.positions() > above {
                let policy = self.streams.get(follower.stream).map(|publisher| publisher.policy());
                let grown = follower.drop_older_half(connected && policy == Some(SlowPolicy::Block));
                self.budget.note_positions(grown);
            }
        }
    }
}

/// Tells who came and who went. Whoever never asks gets the newest few thousand; calls are never dropped here.
pub(super) fn note(events: &mut VecDeque<ServerEvent>, event: ServerEvent) {
    if events.len() >= MOST_EVENTS && !matches!(event, ServerEvent::Work(_)) {
        match events.front() {
            // Somebody who does not even take the calls: this one he will not hear of.
            Some(ServerEvent::Work(_)) => return,
            _ => events.pop_front(),
        };
    }
    events.push_back(event);
}

/// Who came and who went, kept for one who does not ask.
pub(super) const MOST_EVENTS: usize = 512;
