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
use super::super::ConnId;
use super::{wake, Server};
use crate::session::{CloseReason, LimitReached};
use crate::time::Instant;
use crate::wire::{Hello, Role, SessionId};

/// What is kept of one session, and where its frames go.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) role: RecordRole,
    pub(super) session: SessionId,
    /// The newest attempt seen.
    pub(super) attempt: u64,
    /// The connection that serves it.
    pub(super) conn: Option<ConnId>,
    /// When it is forgotten. Invariant: stands in `detached` exactly while there is no connection.
    forget_at: Instant,
    /// The largest frame that the client accepts.
    pub(super) max_frame: u32,
}

/// Its calls, or its place in the log: both boxed, so that neither pays for the other.
#[derive(Debug)]
pub(super) enum RecordRole {
    Requester(Box<CallTable>),
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
        let kept = self.sessions.get(&hello.session).copied();
        if let Some((id, record)) = kept.and_then(|id| Some((id, self.records.get_mut(id.0)?))) {
            self.detached.remove(&(record.forget_at, id));
            let goes_on = match (&mut record.role, hello.role) {
                (RecordRole::Requester(table), Role::Requester) => {
                    self.replier.resume(table);
                    true
                }
                (RecordRole::Subscriber(follower), Role::Subscriber) if follower.stream == stream => {
                    follower.incoming = Some(Box::default());
                    true
                }
                _ => false,
            };
            if goes_on {
                (record.conn, record.attempt) = (Some(conn), hello.attempt);
                (record.max_frame, record.forget_at) = (max_frame, Instant::NEVER);
                return (id, true);
            }
            // The same session in another role or at another stream: that one is over.
            self.forget(id);
        }
        let role = match hello.role {
            Role::Requester => RecordRole::Requester(Box::new(CallTable::new())),
            Role::Subscriber => RecordRole::Subscriber(Box::new(Follower::new(stream))),
        };
        let (session, attempt) = (hello.session, hello.attempt);
        let forget_at = Instant::NEVER;
        let record = Record { role, session, attempt, conn: Some(conn), forget_at, max_frame };
        let id = RecordId(self.records.insert(record));
        self.sessions.insert(session, id);
        (id, false)
    }

    /// A session is forgotten, with what has not started of its calls, or with its place in the log.
    pub(super) fn forget(&mut self, id: RecordId) {
        let Some(record) = self.records.remove(id.0) else { return };
        self.sessions.remove(&record.session);
        match record.role {
            RecordRole::Requester(mut table) => self.replier.leave(&mut table),
            RecordRole::Subscriber(mut follower) => {
                if let Some(publisher) = self.streams.get_mut(follower.stream) {
                    publisher.leave(&mut self.budget, &mut follower, id.0.slot());
                }
            }
        }
    }

    /// A session has lost its connection. Its record is kept for a while: what has not started of its calls still
    /// runs, and what matches its set still counts. A record lives whole or not at all, and only once its client has
    /// shown that it knows of it.
    pub(super) fn detach(&mut self, id: RecordId) {
        let Some(record) = self.records.get_mut(id.0) else { return };
        record.conn = None;
        record.forget_at = self.now + self.limits.session_keep;
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
            return self.forget(id);
        }
        self.detached.insert((record.forget_at, id));
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
