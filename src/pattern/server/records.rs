//! What a server keeps of a session beyond its connections.
//!
//! ```text
//!                      Hello: known = false             lost
//! (nothing) ------------------------------> connected --------> detached ---> forgotten: after `session_keep`,
//!     ^                                      |     ^               |           or as the oldest of too many
//!     +------- Bye, stop, a mistake ---------+     +---------------+
//!                                                Hello: known = true
//! ```
//!
//! A newer connection of a session first ends the older one with all bytes of it that are not decoded: the fence. So
//! whatever the client sends on the new one is the only thing that can still take effect.

use alloc::boxed::Box;

use super::super::follower::Follower;
use super::super::peers::RecordId;
use super::super::publisher::StreamId;
use super::super::replier::CallTable;
use super::super::set::PrefixSet;
use super::super::ConnId;
use super::{wake, Server};
use crate::session::{CloseReason, LimitReached};
use crate::time::Instant;
use crate::wire::{Hello, Role, SessionId};

/// A session, as the fence and the resume see it.
#[derive(Debug)]
pub(super) struct Known {
    /// The connection that serves it.
    pub(super) conn: Option<ConnId>,
    /// The newest attempt seen.
    pub(super) attempt: u64,
    /// Its calls, or its place in the log.
    pub(super) record: RecordId,
    /// When it is forgotten. Invariant: stands in `detached` exactly while there is no connection.
    pub(super) forget_at: Instant,
}

/// What is kept of one session, and where its frames go.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) role: RecordRole,
    pub(super) conn: Option<ConnId>,
    /// The largest frame that the client accepts.
    pub(super) max_frame: u32,
}

#[derive(Debug)]
pub(super) enum RecordRole {
    Requester(CallTable),
    Subscriber(Box<Follower>),
}

impl Record {
    pub(super) fn table(&mut self) -> Option<&mut CallTable> {
        match &mut self.role {
            RecordRole::Requester(table) => Some(table),
            RecordRole::Subscriber(_) => None,
        }
    }

    pub(super) fn calls(&self) -> Option<&CallTable> {
        match &self.role {
            RecordRole::Requester(table) => Some(table),
            RecordRole::Subscriber(_) => None,
        }
    }

    pub(super) fn follower(&mut self) -> Option<&mut Follower> {
        match &mut self.role {
            RecordRole::Subscriber(follower) => Some(follower),
            RecordRole::Requester(_) => None,
        }
    }
}

impl Server {
    /// The session has this connection from here on. Returns its record, and whether it is one that was kept.
    pub(super) fn take_up(&mut self, conn: ConnId, hello: &Hello<'_>) -> (RecordId, bool) {
        let max_frame = hello.max_frame.min(self.limits.max_frame_bytes);
        let stream = self.streams.find(hello.stream).unwrap_or(StreamId::MAIN);
        let kept = self.sessions.get(&hello.session).map(|known| (known.record, known.forget_at));
        let mut found = None;
        if let Some((id, forget_at)) = kept {
            self.detached.remove(&(forget_at, hello.session));
            match (self.records.get_mut(id.0).map(|record| &mut record.role), hello.role) {
                (Some(RecordRole::Requester(table)), Role::Requester) => {
                    self.replier.resume(table);
                    found = Some(id);
                }
                (Some(RecordRole::Subscriber(follower)), Role::Subscriber) if follower.stream == stream => {
                    follower.incoming = Some(PrefixSet::default());
                    found = Some(id);
                }
                // The same session in another role or at another stream: that one is over.
                _ => self.forget(hello.session),
            }
        }
        let id = found.unwrap_or_else(|| {
            let role = match hello.role {
                Role::Requester => RecordRole::Requester(CallTable::new()),
                Role::Subscriber => RecordRole::Subscriber(Box::new(Follower::new(stream))),
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
    pub(super) fn forget(&mut self, session: SessionId) {
        let Some(known) = self.sessions.remove(&session) else { return };
        match self.records.remove(known.record.0).map(|record| record.role) {
            Some(RecordRole::Requester(mut table)) => self.replier.leave(&mut table),
            Some(RecordRole::Subscriber(mut follower)) => {
                if let Some(publisher) = self.streams.get_mut(follower.stream) {
                    publisher.leave(&mut self.budget, &mut follower, known.record.0.slot());
                }
            }
            None => {}
        }
    }

    /// A session has lost its connection. Its record is kept for a while: what has not started of its calls still
    /// runs, and what matches its set still counts. A record lives whole or not at all, and only once its client has
    /// shown that it knows of it.
    pub(super) fn detach(&mut self, session: SessionId) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        let Some(record) = self.records.get_mut(known.record.0) else { return };
        (known.conn, record.conn) = (None, None);
        known.forget_at = self.now + self.limits.session_keep;
        self.detached.insert((known.forget_at, session));
        let is_whole = match &mut record.role {
            RecordRole::Requester(table) => table.is_heard,
            RecordRole::Subscriber(follower) => {
                if let Some(publisher) = self.streams.get_mut(follower.stream) {
                    publisher.detach(&mut self.budget, follower);
                }
                follower.has_begun() && !follower.is_incomplete
            }
        };
        if !is_whole {
            // Its Welcome may be lost with the connection. Whoever does not know that this record is a new one would
            // take it for the one before, and send again what has run there. Or the record is not whole.
            self.detached.remove(&(known.forget_at, session));
            return self.forget(session);
        }
        while self.detached.len() > self.limits.max_detached as usize {
            let Some((_, oldest)) = self.detached.pop_first() else { break };
            self.forget(oldest);
        }
    }

    /// Announces that a connection has something to write, if there is one and it was idle.
    pub(super) fn wake_conn(&mut self, conn: Option<ConnId>) {
        if let Some((conn, peer)) = conn.and_then(|conn| Some((conn, self.peers.get_mut(conn)?))) {
            wake(conn, peer, &mut self.actions);
        }
    }
}

/// Whether a session may come back after its connection ended for this reason: it was lost, not closed.
pub(super) fn is_resumable(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::StreamLost(_)
            | CloseReason::NotReading
            | CloseReason::TooSlow
            | CloseReason::Replaced
            | CloseReason::FrameStalled { .. }
            | CloseReason::Limit(LimitReached::SendQueues { .. })
    )
}
