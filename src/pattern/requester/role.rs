//! A requester on its connection: what is written, what comes back, and what a loss leaves of each call.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::dialer::{ClientRole, Dialer, Lag};
use super::super::received::{Incoming, Received};
use super::super::spares::Spares;
use super::super::{earlier, CHUNK_BYTES};
use super::settling::{ID_BYTES, SETTLE_AT};
use super::{
    Call, Failure, FailureKind, NotExecuted, Outcome, Requester, State, Unknown, LARGE_RIDERS_BYTES,
    REQUEST_FRONT_BYTES, REQUEST_HEADER_BYTES,
};
use crate::session::{Chunk, CloseReason, Fate, SharedFrame, Violation};
use crate::time::Instant;
use crate::wire::{Frame, Ids, Refusal, Reply, RequestParts, Settle, Status, TooLong, Welcome};

impl ClientRole for Requester {
    fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn dialer_mut(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    fn handle_established(&mut self, _now: Instant, welcome: Welcome, before: Option<u64>) {
        // With several addresses the record may be one of an earlier visit to another server: what was sent elsewhere
        // since is unknown there.
        let known = welcome.known && before == Some(welcome.epoch);
        let why = if before == Some(welcome.epoch) { Unknown::SessionLost } else { Unknown::Restarted };
        let interrupted =
            self.calls.iter().filter(|(_, call)| matches!(call.state, State::Interrupted { .. }));
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for (id, call) in interrupted {
            let list = if known || call.options.idempotent { &mut again } else { &mut lost };
            list.push(id);
        }
        for id in lost {
            self.finish(id, Outcome::Unknown(why));
        }
        // The record of the old connection is gone and its entries with it, or it is here and is told what we keep.
        self.unsettle();
        if known {
            self.keep_only(&mut again);
        } else if welcome.known {
            self.keep_only(&mut Vec::new());
        }
        for id in again.iter().filter(|_| !known) {
            if let Some(call) = self.calls.get_mut(*id) {
                call.doubt.get_or_insert(why);
            }
        }
        self.stats.sent_again += again.len() as u64;
        let renumber = !known && !again.is_empty();
        self.requeue(again);
        if renumber {
            self.renumber();
        }
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame<'_>) -> Result<(), CloseReason> {
        match frame {
            Frame::Reply { header, payload } => {
                self.handle_reply(now, header, Incoming::Borrowed(payload));
                Ok(())
            }
            Frame::Heartbeat(_) => Ok(()),
            frame => Err(CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() })),
        }
    }

    fn handle_own_reply(
        &mut self,
        now: Instant,
        header: Reply,
        payload: Received,
    ) -> Result<(), CloseReason> {
        self.handle_reply(now, header, Incoming::Owned(payload));
        Ok(())
    }

    fn lend_buffer(&mut self, len: usize) -> Option<Vec<u8>> {
        self.shelf.take(len, self.dialer.limits().max_frame_bytes as usize)
    }

    fn handle_lost(&mut self, now: Instant, begun: Option<u64>) {
        // A chunk that is out will tell what became of its calls when it comes back. If none is out and a call is
        // neither sent nor known to be cut off, nobody will ever say.
        let told = self.dialer.is_lent();
        let sent = self.calls.iter().filter(|(id, call)| match call.state {
            State::Sent => true,
            State::Taken => !told && begun != Some(*id),
            _ => false,
        });
        for id in sent.map(|(id, _)| id).collect::<Vec<_>>() {
            self.interrupt(now, id);
        }
        // Cut off before its last byte: on this connection it cannot have started.
        self.stats.sent_again += u64::from(begun.is_some_and(|id| self.calls.contains_key(id)));
        self.requeue(begun.into_iter().collect());
        // Waiting to be sent again is no better than having been sent.
        let calls = &self.calls;
        let (unsure, unsent): (Vec<u64>, Vec<u64>) = core::mem::take(&mut self.queue)
            .into_iter()
            .partition(|id| calls.get(*id).is_some_and(|call| call.sent));
        self.queue = unsent.into();
        unsure.into_iter().for_each(|id| self.interrupt(now, id));
    }

    fn render(&mut self, _now: Instant) {
        if !self.settle_now || self.riding.is_some() {
            return;
        }
        for piece in self.settled.chunks(SETTLE_AT * ID_BYTES) {
            let ids = Ids::from_bytes(piece).expect("built from whole ids");
            if let Some(session) = self.dialer.session_mut() {
                session.send_control(&Frame::Settle(Settle { all_but: false, ids }));
            }
        }
        self.unsettle();
    }

    fn gather(&mut self, now: Instant, chunk: &mut Chunk) {
        let limit = self.dialer.session_mut().map_or(0, |session| session.peer_max_frame());
        while let Some(&id) = self.queue.front() {
            let Some(call) = self.calls.get_mut(id) else {
                self.queue.pop_front();
                continue;
            };
            if call.options.deadline <= now {
                self.queue.pop_front();
                self.give_up(now, id, NotExecuted::Expired, Unknown::Deadline);
                continue;
            }
            let size = chunk.bytes().len();
            let is_full = call.large.is_some() || size + call.text.len() > CHUNK_BYTES;
            if size > 0 && is_full {
                return;
            }
            self.queue.pop_front();
            let riders = if self.riding.is_none() { &self.settled[..] } else { &[] };
            match encode(now, id, call, riders, limit, chunk) {
                Ok(ride) => {
                    call.state = State::Taken;
                    if ride > 0 {
                        self.riding = Some((id, ride));
                    }
                    if is_full {
                        return;
                    }
                }
                Err(TooLong { len, limit }) => {
                    self.give_up(now, id, NotExecuted::TooLong { len, limit }, Unknown::ConnectionLost);
                }
            }
        }
    }

    fn handle_fates(&mut self, now: Instant, chunk: &Chunk, written: usize, lost: bool) {
        let mut again = Vec::new();
        for (id, fate) in chunk.fates(written) {
            self.handle_ride(id, fate);
            let Some(call) = self.calls.get_mut(id).filter(|call| call.state == State::Taken) else {
                continue;
            };
            match fate {
                _ if lost && call.sent => self.interrupt(now, id),
                Fate::Written if lost => self.interrupt(now, id),
                Fate::Written => {
                    call.state = State::Sent;
                    call.sent = true;
                }
                Fate::Begun if lost => again.push(id),
                Fate::Begun => {}
                Fate::Untouched => again.push(id),
            }
        }
        if !again.is_empty() {
            self.requeue(again);
        }
    }

    fn handle_role_timeout(&mut self, now: Instant) {
        if now >= self.look_at {
            self.expire(now);
            if self.calls.is_empty() {
                self.shelf.clear();
            }
        }
        if self.settle_due.take_if(|due| *due <= now).is_some() {
            self.settle_now = true;
            self.dialer.wake();
            // No call has come for that long.
            self.shelf.clear();
        }
    }

    fn poll_role_timeout(&self) -> Option<Instant> {
        let calls = Some(self.look_at).filter(|at| *at != Instant::NEVER);
        earlier(calls, self.settle_due)
    }

    fn after_input(&mut self) {}

    fn lag(&self) -> Lag {
        Lag::None
    }

    fn handle_poisoned_role(&mut self, _now: Instant) {
        self.stopped = true;
        for id in self.calls.ids().collect::<Vec<_>>() {
            self.finish(id, Outcome::Unknown(Unknown::Stopped));
        }
        self.queue.clear();
        self.unsettle();
    }

    fn release_role(&mut self) {
        // Calls without an outcome end by their deadlines, also now.
        self.calls.shrink();
        self.queue.shrink_to_fit();
        self.done.shrink_to_fit();
        self.settled.shrink_to_fit();
        self.spares = Spares::default();
        self.shelf.clear();
    }
}

impl Requester {
    fn handle_reply(&mut self, now: Instant, reply: Reply, payload: Incoming<'_>) {
        // Nobody waits for it any more, or nothing of the call has left us yet.
        let waits = |call: &&Call| call.state != State::Queued || call.sent;
        let Some(call) = self.calls.get(reply.id).filter(waits) else {
            self.stats.late_replies += 1;
            return;
        };
        let doubt = call.doubt;
        let failed = |kind| Outcome::Failed(Failure { kind, text: words(&payload) });
        let outcome = match reply.status {
            Status::Ok => Outcome::Value(match payload {
                Incoming::Borrowed(bytes) => bytes.to_vec().into(),
                Incoming::Owned(payload) => payload,
            }),
            Status::Failed => failed(FailureKind::Function),
            Status::UnknownFunction => failed(FailureKind::UnknownFunction),
            Status::BadArguments => failed(FailureKind::BadArguments),
            Status::Panicked => failed(FailureKind::Panicked),
            Status::Dropped => failed(FailureKind::Dropped),
            Status::ResultNotKept => Outcome::ResultNotKept,
            Status::NotExecuted(why) => match doubt {
                // Not this time, but it was sent before to one who can no longer be asked.
                Some(doubt) => Outcome::Unknown(doubt),
                None => Outcome::NotExecuted(not_executed(why)),
            },
        };
        self.finish(reply.id, outcome);
        self.settle(now, reply.id, false);
    }
}

/// Appends the request, with as many riders as there is room for; a large one is the whole chunk. Returns how many bytes
/// of riders that is.
fn encode(
    now: Instant,
    id: u64,
    call: &mut Call,
    riders: &[u8],
    limit: u32,
    chunk: &mut Chunk,
) -> Result<usize, TooLong> {
    let left = call.options.deadline.saturating_since(now).as_millis();
    let len = call.large.as_ref().map_or(0, |frame| frame.buffer().len() - REQUEST_FRONT_BYTES);
    let bare = REQUEST_HEADER_BYTES + (call.text.len() + len) as u64;
    let most = if call.large.is_some() { LARGE_RIDERS_BYTES } else { SETTLE_AT * ID_BYTES };
    let ride = riders.len().min(most);
    let fits = bare + RIDERS_LENGTH_BYTES + ride as u64 <= u64::from(limit);
    let riding = if fits { &riders[..ride] } else { &[] };
    let (function, arguments) = call.text();
    let settled = Ids::from_bytes(riding).expect("built from whole ids");
    let time_left_ms = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    let parts = RequestParts { id, time_left_ms, function, settled, arguments };
    if call.large.is_none() {
        parts.encode(limit, chunk.buffer())?;
        return Ok(riding.len());
    }
    let mut head = Vec::with_capacity(REQUEST_FRONT_BYTES);
    parts.encode_head(len, limit, &mut head)?;
    if let Some(frame) = &mut call.large {
        if Arc::get_mut(frame).is_none() {
            // It was begun on a connection that is gone, and somebody has not let go of that one's chunk yet.
            *frame = SharedFrame::new(frame.buffer().clone(), 0);
        }
        Arc::get_mut(frame).expect("nobody else has it").set_head(REQUEST_FRONT_BYTES, &head);
        chunk.share(Arc::clone(frame));
    }
    Ok(riding.len())
}

/// What the length of the settled ids may take more than one byte.
const RIDERS_LENGTH_BYTES: u64 = 1;

/// The words of a failure. What is no text at all is made readable, which may take three times its room: of that a
/// beginning is enough.
fn words(payload: &[u8]) -> String {
    const MOST: usize = 512;
    match core::str::from_utf8(payload) {
        Ok(text) => String::from(text),
        Err(_) => String::from_utf8_lossy(&payload[..payload.len().min(MOST)]).into_owned(),
    }
}

fn not_executed(why: Refusal) -> NotExecuted {
    match why {
        Refusal::Expired => NotExecuted::Expired,
        Refusal::Full => NotExecuted::Full,
        Refusal::ShuttingDown => NotExecuted::ShuttingDown,
        Refusal::Settled => NotExecuted::Withdrawn,
    }
}
