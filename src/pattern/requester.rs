//! The requester: any number of calls on one connection, each with its deadline, its own fate, and one outcome.
//!
//! ```text
//!            chunk taken        last byte written       Reply
//! Queued ----------------> Taken ----------------> Sent --------> outcome
//!   ^  | deadline            |  |  deadline          |  | connection lost
//!   |  +-> not executed      |  +-> unknown          |  v
//!   +------------------------+                       | Interrupted --> unknown, or sent again where that is safe
//!     the kernel took nothing, or the frame was cut off
//! ```
//!
//! What it never does: run a function twice, tell a caller that a begun call was not executed while the connection
//! lives, or give a late reply to another call.

mod outcome;
mod role;
mod settling;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use outcome::{CallOptions, Done, Failure, FailureKind, NotExecuted, Outcome, RequesterStats, Unknown};

use super::ascending::Ascending;
use super::dialer::{Dialer, DialerSetup};
use super::received::Received;
use super::shelf::Shelf;
use super::spares::Spares;
use super::{ConnectionEvent, Random, Reconnect};
use crate::session::{Limits, SharedFrame};
use crate::time::Instant;
use crate::wire::{RequestParts, Role, SessionId, LENGTH_BYTES, MAX_NAME_BYTES};

#[derive(Debug)]
struct Call {
    /// What its caller knows it by.
    id: u64,
    /// The function's name, and the arguments behind it unless they are large.
    text: Vec<u8>,
    name_len: u8,
    /// Large arguments, behind [`REQUEST_FRONT_BYTES`] of room: the frame is written from where they are held.
    large: Option<Arc<SharedFrame>>,
    /// What it counts for in the budget of what is held.
    held: u64,
    options: CallOptions,
    state: State,
    /// The kernel had all of it once, on this connection or an earlier one: only the server can say that it was not
    /// executed.
    sent: bool,
    /// It was sent to a record that is gone, so not even the server can say so any more, and why.
    doubt: Option<Unknown>,
}

impl Call {
    /// The function's name, and the arguments unless they are large.
    fn text(&self) -> (&[u8], &[u8]) {
        self.text.split_at(usize::from(self.name_len))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of it was begun on the present connection.
    Queued,
    /// In a chunk, or begun.
    Taken,
    /// The kernel has all of it.
    Sent,
    /// It was sent, and the connection is gone; until then it waits for it to come back.
    Interrupted { until: Instant },
}

/// Calls functions of one server; see the module's page.
#[derive(Debug)]
pub struct Requester {
    dialer: Dialer,
    /// Calls without an outcome, by the ids that they have on the wire: that of their caller, unless they are sent again
    /// to a server that no longer knows them.
    calls: Ascending<Call>,
    /// Calls to be sent. Invariant: ids ascend.
    queue: VecDeque<u64>,
    next_id: u64,
    /// Not later than the earliest moment at which a call has to be looked at.
    look_at: Instant,
    /// Calls that have had their outcome and whose entries the server may forget.
    settled: Vec<u8>,
    /// The taken request that the first so many bytes of `settled` ride on.
    riding: Option<(u64, usize)>,
    /// When they are to be sent without a request to ride on.
    settle_due: Option<Instant>,
    /// That moment has come, and they wait to be written.
    settle_now: bool,
    stopped: bool,
    done: VecDeque<Done>,
    /// Buffers of calls.
    spares: Spares,
    /// Those of large calls, and for large results. Within the budget of what is held.
    shelf: Shelf,
    stats: RequesterStats,
}

impl Requester {
    /// A requester that knows `addresses` addresses and dials none yet. `session_id` and `seed` are random bits.
    ///
    /// # Panics
    /// If the limits are not valid, or there is no address; the caller's mistake.
    pub fn new(
        limits: Limits,
        reconnect: Reconnect,
        addresses: usize,
        session_id: SessionId,
        mut random: Random,
    ) -> Self {
        let setup = DialerSetup {
            role: Role::Requester,
            stream: Box::from(""),
            session_id,
            reconnect,
            addresses,
            seed: random.next_u64(),
        };
        Requester {
            shelf: Shelf::new(
                limits.held_requests_bytes,
                limits.max_frame_bytes as usize + LENGTH_BYTES + REQUEST_FRONT_BYTES,
            ),
            dialer: Dialer::new(setup, limits),
            calls: Ascending::new(),
            queue: VecDeque::new(),
            next_id: 1,
            look_at: Instant::NEVER,
            settled: Vec::new(),
            riding: None,
            settle_due: None,
            settle_now: false,
            stopped: true,
            done: VecDeque::new(),
            spares: Spares::default(),
            stats: RequesterStats::default(),
        }
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

    /// Ends every call, as far as it is known, and the connection in good order.
    pub fn stop(&mut self, now: Instant) {
        self.stopped = true;
        for id in self.calls.ids().collect::<Vec<_>>() {
            self.give_up(now, id, NotExecuted::ShuttingDown, Unknown::Stopped);
        }
        self.queue.clear();
        self.unsettle();
        self.dialer.stop(now);
    }

    /// Begins a call. Its end comes out of [`Requester::poll_done`] under the id that is returned.
    ///
    /// # Errors
    /// It was refused at once and nothing was sent.
    pub fn call(
        &mut self,
        now: Instant,
        function: &str,
        arguments: &[u8],
        options: CallOptions,
    ) -> Result<u64, NotExecuted> {
        if !self.shelf.is_large(arguments.len()) {
            return self.begin(now, function, arguments, None, options);
        }
        // Before anything is copied.
        self.check(now, function, arguments.len(), options)?;
        let mut buffer = self.copy(arguments);
        self.begin(now, function, &[], Some(&mut buffer), options)
    }

    /// Large arguments behind room in a buffer of their own, for which there is room in what may be held.
    fn copy(&mut self, arguments: &[u8]) -> Vec<u8> {
        let len = REQUEST_FRONT_BYTES + arguments.len();
        let most = usize::try_from(self.free_bytes()).unwrap_or(usize::MAX);
        let mut buffer = self.shelf.take(len, most).unwrap_or_else(|| Vec::with_capacity(len));
        buffer.resize(REQUEST_FRONT_BYTES, 0);
        buffer.extend_from_slice(arguments);
        buffer
    }

    /// The same with arguments that lie in a buffer behind [`REQUEST_FRONT_BYTES`] of room, whatever is there. Large ones
    /// (above 32 KiB, or a thirty-second of `held_requests_bytes`) are written from there, without a copy: the call keeps
    /// the buffer, and an empty one is left in its place.
    ///
    /// # Errors
    /// It was refused at once, nothing was sent, and the buffer is as it was.
    ///
    /// # Panics
    /// If the buffer is shorter than the room.
    pub fn call_in_place(
        &mut self,
        now: Instant,
        function: &str,
        buffer: &mut Vec<u8>,
        options: CallOptions,
    ) -> Result<u64, NotExecuted> {
        let arguments = &buffer[REQUEST_FRONT_BYTES..];
        if !self.shelf.is_large(arguments.len()) {
            return self.begin(now, function, arguments, None, options);
        }
        if !self.shelf.may_stay(buffer) || held(buffer) > self.free_bytes() {
            return self.call(now, function, arguments, options);
        }
        self.begin(now, function, &[], Some(buffer), options)
    }

    /// Begins a call with these arguments, or with large ones in a buffer, which it then takes.
    fn begin(
        &mut self,
        now: Instant,
        function: &str,
        arguments: &[u8],
        large: Option<&mut Vec<u8>>,
        options: CallOptions,
    ) -> Result<u64, NotExecuted> {
        let (len, held) = match &large {
            None => (arguments.len(), arguments.len() as u64),
            Some(buffer) => (buffer.len() - REQUEST_FRONT_BYTES, held(buffer)),
        };
        self.check(now, function, len, options)?;
        let id = self.next_id;
        self.next_id += 1;
        self.stats.calls += 1;
        self.stats.held_bytes += held;
        self.look_at = self.look_at.min(options.deadline);
        let mut text = self.spares.take(function.len() + arguments.len());
        text.extend_from_slice(function.as_bytes());
        text.extend_from_slice(arguments);
        let name_len = u8::try_from(function.len()).expect("longer names are refused");
        let large = large.map(|buffer| SharedFrame::new(core::mem::take(buffer), 0));
        let state = State::Queued;
        let call = Call { id, text, name_len, large, held, options, state, sent: false, doubt: None };
        self.calls.push(id, call);
        self.queue.push_back(id);
        self.dialer.wake();
        self.shelf.make_room(self.free_bytes());
        Ok(id)
    }

    /// Bytes of requests that may still be held.
    fn free_bytes(&self) -> u64 {
        self.dialer.limits().held_requests_bytes.saturating_sub(self.stats.held_bytes)
    }

    /// Keeps a buffer for the next call, or the next result.
    fn keep(&mut self, buffer: Vec<u8>) {
        if let Some(small) = self.shelf.put(buffer, self.free_bytes()) {
            self.spares.put(small);
        }
    }

    /// Refuses a call with arguments of `len` bytes if it is to be refused at once.
    fn check(
        &mut self,
        now: Instant,
        function: &str,
        len: usize,
        options: CallOptions,
    ) -> Result<(), NotExecuted> {
        let refusal = self.refusal(now, function, len, options);
        self.stats.refused += u64::from(refusal.is_some());
        refusal.map_or(Ok(()), Err)
    }

    fn refusal(&self, now: Instant, function: &str, len: usize, options: CallOptions) -> Option<NotExecuted> {
        let limits = self.dialer.limits();
        let frame_len = REQUEST_HEADER_BYTES + (function.len() + len) as u64;
        if self.stopped {
            Some(NotExecuted::ShuttingDown)
        } else if function.is_empty() || function.len() > MAX_NAME_BYTES {
            Some(NotExecuted::BadName { len: function.len(), limit: MAX_NAME_BYTES })
        } else if frame_len > u64::from(limits.max_frame_bytes) {
            Some(NotExecuted::TooLong { len: frame_len, limit: limits.max_frame_bytes })
        } else if options.deadline <= now {
            Some(NotExecuted::Expired)
        } else if options.fail_fast && !self.dialer.is_established() {
            Some(NotExecuted::NotConnected)
        } else if self.calls.len() >= limits.max_in_flight as usize
            || self.stats.held_bytes + len as u64 > limits.held_requests_bytes
        {
            Some(NotExecuted::Full)
        } else {
            None
        }
    }

    /// Takes a result back, so that the next large one needs no memory of its own. Whoever does without it loses nothing
    /// else.
    pub fn give_back(&mut self, result: Received) {
        self.keep(result.into_parts().0);
    }

    /// The next call that has ended.
    pub fn poll_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// The next thing that happened to the connection.
    pub fn poll_connection_event(&mut self) -> Option<ConnectionEvent> {
        self.dialer.events.pop_front()
    }

    // Looking.

    /// The handshake is done and the connection lives.
    pub fn is_connected(&self) -> bool {
        self.dialer.is_established()
    }

    /// Stopped, and nothing waits to be written any more.
    pub fn is_flushed(&self) -> bool {
        self.dialer.is_flushed()
    }

    /// It was stopped, or not started yet.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stopped, and the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.dialer.is_idle()
    }

    /// The life of the server that was last met.
    pub fn epoch(&self) -> Option<u64> {
        self.dialer.epoch()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> RequesterStats {
        RequesterStats { in_flight: self.calls.len() as u64, ..self.stats }
    }

    // Calls.

    /// Takes a call out and ends it.
    fn finish(&mut self, id: u64, outcome: Outcome) {
        let Some(call) = self.calls.remove(id) else { return };
        self.stats.held_bytes -= call.held;
        match &outcome {
            Outcome::Unknown(_) => self.stats.unknown += 1,
            Outcome::NotExecuted(_) => self.stats.not_executed += 1,
            _ => self.stats.answered += 1,
        }
        self.done.push_back(Done { id: call.id, outcome });
        self.spares.put(call.text);
        if let Some(buffer) = call.large.and_then(SharedFrame::into_buffer) {
            self.keep(buffer);
        }
    }

    /// Ends a call without a word of the server's: as not executed if nothing of it can have arrived, else as unknown,
    /// and then the server need not keep it.
    fn give_up(&mut self, now: Instant, id: u64, unsent: NotExecuted, sent: Unknown) {
        let Some(call) = self.calls.get(id) else { return };
        let outcome = match call.state {
            State::Queued if !call.sent => Outcome::NotExecuted(unsent),
            _ => Outcome::Unknown(sent),
        };
        let settles = matches!(outcome, Outcome::Unknown(_)) && self.dialer.is_established();
        self.finish(id, outcome);
        if settles {
            self.settle(now, id, true);
        }
    }

    /// Puts calls back to the front of the queue, in the order of their ids.
    fn requeue(&mut self, mut ids: Vec<u64>) {
        ids.sort_unstable();
        for id in ids.into_iter().rev() {
            if let Some(call) = self.calls.get_mut(id) {
                call.state = State::Queued;
                self.queue.push_front(id);
            }
        }
        self.dialer.wake();
    }

    fn interrupt(&mut self, now: Instant, id: u64) {
        let resume_wait = self.dialer.limits().resume_wait;
        if let Some(call) = self.calls.get_mut(id) {
            let until = (now + resume_wait).min(call.options.deadline);
            call.sent = true;
            call.state = State::Interrupted { until };
            self.look_at = self.look_at.min(until);
        }
    }

    fn expire(&mut self, now: Instant) {
        let connected = self.dialer.is_established();
        let unsent = if connected { NotExecuted::Expired } else { NotExecuted::NotConnected };
        let mut over: Vec<(u64, State)> = Vec::new();
        let mut next = Instant::NEVER;
        for (id, call) in self.calls.iter() {
            let at = match call.state {
                // An idempotent call waits for a connection on which it can be sent again.
                State::Interrupted { until } if !call.options.idempotent => until,
                _ => call.options.deadline,
            };
            if at <= now {
                over.push((id, call.state));
            } else {
                next = next.min(at);
            }
        }
        self.look_at = next;
        for (id, state) in over {
            match state {
                State::Queued => {
                    self.give_up(now, id, unsent, Unknown::Deadline);
                    self.queue.retain(|other| *other != id);
                }
                State::Interrupted { .. } => self.give_up(now, id, unsent, Unknown::ConnectionLost),
                State::Taken | State::Sent => self.give_up(now, id, unsent, Unknown::Deadline),
            }
        }
    }

    /// Calls that are sent again to a server that does not know them are new calls to it, under new ids. So that ids
    /// ascend and calls keep the order in which they were made, those behind them get new ids too.
    fn renumber(&mut self) {
        for old in core::mem::take(&mut self.queue) {
            let Some(call) = self.calls.remove(old) else { continue };
            self.calls.push(self.next_id, call);
            self.queue.push_back(self.next_id);
            self.next_id += 1;
        }
    }
}

/// What a call takes beside its arguments: its name, its place among all (of which up to two thirds may be empty) and those
/// in other queues, the end of it and the place where that is put, and the note that the server may forget it.
pub(crate) const CALL_BYTES: u64 = (MAX_NAME_BYTES
    + Spares::SLACK
    + 3 * Ascending::<Call>::PLACE_BYTES
    + 2 * size_of::<u64>()
    + 4 * size_of::<Done>()
    + 256) as u64;

/// What large arguments count for in a buffer: all that it takes but the room in front, for which there is room besides.
fn held(buffer: &Vec<u8>) -> u64 {
    Shelf::cost(buffer) - REQUEST_FRONT_BYTES as u64
}

/// The most bytes that the rooms in front of all large arguments take that may be held.
pub(crate) fn fronts_bytes(held_requests_bytes: u64) -> u64 {
    held_requests_bytes / Shelf::large_bytes(held_requests_bytes) as u64 * REQUEST_FRONT_BYTES as u64
}

/// Bytes of a Request frame beside its name and its arguments, with nothing settled: the kind, the id, the time left,
/// and the lengths of the name and of the settled ids.
const REQUEST_HEADER_BYTES: u64 = 1 + 8 + 4 + 2 + 1;
/// Room in front of arguments for the rest of their frame, in bytes: for [`Requester::call_in_place`].
pub const REQUEST_FRONT_BYTES: usize = RequestParts::most_head_bytes(LARGE_RIDERS_BYTES);
/// Bytes of settled ids that ride on a large request at most.
const LARGE_RIDERS_BYTES: usize = 8 * settling::ID_BYTES;

#[cfg(test)]
mod tests;
