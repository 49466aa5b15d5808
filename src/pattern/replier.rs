//! The replier: enters each request into its session's table when it is decoded, hands it out once, and keeps its
//! answer until the client says that it has it.
//!
//! ```text
//!           decoded            start()           reply()            written, settled
//! (nothing) -------> Queued -----------> Running --------> Done ----------------------> (nothing)
//!                      | settled, expired                    ^
//!                      +-- never runs -----------------------+ (not executed)
//! ```
//!
//! It does not run functions: it says which are asked for and takes what became of them. Only calls that the client
//! has not settled count against the bounds; when they are full, new calls are refused and none is evicted.

mod names;
mod table;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ascending::Ascending;
use super::peers::RecordId;
use super::received::{Incoming, Received};
use super::shelf::Shelf;
use super::spares::Spares;
use super::CHUNK_BYTES;
use crate::session::{Chunk, Fate, Limits, Violation};
use crate::time::{Duration, Instant};
use crate::wire::{self, Frame, Refusal, Reply, Request, Settle, Status, LENGTH_BYTES};
pub(super) use names::Names;
pub(super) use table::{CallTable, ENTRY_OVERHEAD};
use table::{Entry, State, TO_WRITE_SLACK};

/// One call that was handed out: answer it once. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub(crate) record: RecordId,
    pub(crate) id: u64,
}

/// A request that has come and waits to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Names the call in [`Server::start`](super::Server::start) and [`Server::reply`](super::Server::reply).
    pub ticket: Ticket,
    /// The function that is asked for.
    pub function: Arc<str>,
    /// When the caller gives up: after it the call is not started.
    pub deadline: Instant,
}

/// What goes with an answer.
pub(super) enum Payload<'a> {
    /// Somewhere, to be copied.
    Borrowed(&'a [u8]),
    /// In a buffer behind [`ANSWER_FRONT_BYTES`] of room, which may be kept if an empty one is left in its place.
    InPlace(&'a mut Vec<u8>),
}

impl Payload<'_> {
    pub(super) const NONE: Self = Payload::Borrowed(&[]);

    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::InPlace(buffer) => &buffer[ANSWER_FRONT_BYTES..],
        }
    }
}

/// Why a call is not to be started. It has had its answer, if it can still be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotStarted {
    /// Its deadline has passed.
    #[error("the call's deadline has passed")]
    Expired,
    /// Its caller has settled it, or is gone.
    #[error("the caller no longer waits")]
    Withdrawn,
    /// It was started or answered before.
    #[error("the call was started before")]
    Started,
}

/// What a replier counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReplierStats {
    /// Requests decoded.
    pub requests: u64,
    /// Requests that were here already and joined the call that they had begun.
    pub joined: u64,
    /// Calls started.
    pub started: u64,
    /// Calls answered after they had been started.
    pub answered: u64,
    /// Calls refused because a bound was reached.
    pub refused: u64,
    /// Calls that had expired before they were started.
    pub expired: u64,
    /// Calls that were withdrawn before they were started: settled, or their caller gone.
    pub withdrawn: u64,
    /// Answers that nobody waited for any more.
    pub dropped_results: u64,
    /// Results that did not fit into the budget and were replaced by "result not kept".
    pub results_not_kept: u64,
    /// Bytes of arguments that wait or that functions have, with the overhead of all entries.
    pub queued_bytes: u64,
    /// Bytes of results that are kept.
    pub result_bytes: u64,
}

/// Tables keep the memory of calls that are gone for those that come, up to this part of the bytes that may be queued.
const ROOM_PART: u64 = 64;
/// Above this part of that memory a table is a large one.
const LARGE_PART: u64 = 16;
/// Bytes of a Reply frame beside its payload, its length included, at most.
const REPLY_HEADER_BYTES: usize = 24;
/// Room in front of a result for the rest of its frame, in bytes: for [`Server::reply_in_place`](super::Server::reply_in_place).
pub const ANSWER_FRONT_BYTES: usize = wire::RESULT_HEAD_BYTES;
/// A written result above this is not kept until it is settled.
const KEPT_RESULT_BYTES: usize = 64 * 1024;

/// The budgets and counters of all sessions together.
#[derive(Debug)]
pub(crate) struct Replier {
    max_in_flight: usize,
    queued_limit: u64,
    refusals_limit: u64,
    results_limit: u64,
    /// Bytes of memory of all tables beyond what each may have, and above which they let go of what they do not need.
    tables: u64,
    tables_limit: u64,
    /// As many calls wait to be looked at as may.
    pub(crate) is_behind: bool,
    names: Names,
    /// Buffers of arguments and answers.
    spares: Spares,
    /// Those of large ones. Within the budget of results.
    shelf: Shelf,
    /// See [`Limits::lent_answer_bytes`].
    lent_answer_bytes: usize,
    pub(crate) stats: ReplierStats,
}

impl Replier {
    /// The most memory that tables keep for calls that are to come, in bytes.
    pub(super) fn room_bytes(limits: &Limits) -> u64 {
        limits.queued_arguments_bytes / ROOM_PART
    }

    pub(crate) fn new(limits: &Limits) -> Self {
        Replier {
            max_in_flight: limits.max_in_flight as usize,
            // The rest is for the entries of calls that are refused.
            queued_limit: limits.queued_arguments_bytes / 16 * 15,
            refusals_limit: limits.queued_arguments_bytes,
            results_limit: limits.results_bytes,
            tables: 0,
            tables_limit: Self::room_bytes(limits),
            is_behind: false,
            names: Names::default(),
            spares: Spares::default(),
            shelf: Shelf::new(limits.results_bytes, limits.max_frame_bytes as usize + LENGTH_BYTES),
            lent_answer_bytes: limits.lent_answer_bytes(),
            stats: ReplierStats::default(),
        }
    }

    /// A request was decoded: settles what rides on it, and enters it.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        table: &mut CallTable,
        record: RecordId,
        header: Request<'_>,
        arguments: Incoming<'_>,
        max_frame: u32,
    ) -> Result<Option<Work>, Violation> {
        self.settle(table, header.settled.iter());
        let known = table.entries.contains_key(header.id);
        if !known && header.id > table.last_here && table.may_have_turned_away(header.id) {
            table.last_here = header.id;
            self.turn_away(table, header.id);
            return Ok(None);
        }
        if header.id <= table.last_here || (header.id <= table.last_id && !known) {
            return Err(Violation::RequestIdReused { id: header.id });
        }
        table.last_here = header.id;
        self.stats.requests += 1;
        if known {
            self.join(table, header.id, max_frame);
            return Ok(None);
        }
        if self.is_short() && !table.entries.is_empty() {
            // Not even refusals are kept without bound.
            self.turn_away(table, header.id);
            return Ok(None);
        }
        table.last_id = header.id;
        let cost = match &arguments {
            Incoming::Borrowed(bytes) => bytes.len() as u64,
            Incoming::Owned(arguments) => Shelf::cost(arguments.buffer()),
        };
        let unsettled = table.entries.len() - table.settled_running as usize;
        let full = self.is_behind
            || unsettled >= self.max_in_flight
            || self.stats.queued_bytes + ENTRY_OVERHEAD + cost > self.queued_limit;
        if unsettled >= self.max_in_flight.saturating_mul(2) {
            // It was told that it is full, and goes on without settling: not even refusals are kept without bound.
            return Err(Violation::TooManyInFlight { limit: self.max_in_flight as u64 });
        }
        self.stats.queued_bytes += ENTRY_OVERHEAD;
        let deadline = now + Duration::from_millis(u64::from(header.time_left_ms));
        if full {
            self.stats.refused += 1;
            if let Incoming::Owned(arguments) = arguments {
                self.give_back(arguments);
            }
            let state = State::Running { held: 0, settled: false };
            table.entries.push(header.id, Entry { bytes: Vec::new(), state });
            self.finish(table, header.id, Status::NotExecuted(Refusal::Full), Payload::NONE, max_frame);
            return Ok(None);
        }
        self.stats.queued_bytes += cost;
        let (bytes, begin) = match arguments {
            Incoming::Borrowed(bytes) => (self.spares.copy(bytes), 0),
            Incoming::Owned(arguments) => arguments.into_parts(),
        };
        let begin = u32::try_from(begin).expect("frames are limited to a u32");
        let entry = Entry { bytes, state: State::Queued { deadline, begin } };
        table.entries.push(header.id, entry);
        self.count(table);
        let ticket = Ticket { record, id: header.id };
        Ok(Some(Work { ticket, function: self.names.intern(header.function), deadline }))
    }

    /// There is no room for further entries, but for one in each table.
    pub(crate) fn is_short(&self) -> bool {
        self.stats.queued_bytes + ENTRY_OVERHEAD > self.refusals_limit
    }

    /// A request is refused and not entered: should it come again, it is refused again, or entered then if nothing behind
    /// it was.
    fn turn_away(&mut self, table: &mut CallTable, id: u64) {
        self.stats.refused += 1;
        table.first_turned_away = table.first_turned_away.min(id);
        table.turned_away.push_back(id);
    }

    /// A request that is here already was sent again after a loss: it is not entered twice. If it has its answer, that
    /// is written again; if not, it will be when it has one.
    fn join(&mut self, table: &mut CallTable, id: u64, max_frame: u32) {
        self.stats.joined += 1;
        let Some((written, frame)) = table.entries.get_mut(id).and_then(Entry::answer) else { return };
        *written = false;
        if frame.is_empty() {
            // It was large and had been begun on the connection that is lost.
            *frame = self.without_payload(id, Status::ResultNotKept, max_frame);
            self.stats.result_bytes += Shelf::cost(frame);
        }
        table.to_write.push_back(id);
        self.count(table);
    }

    /// The session has another connection: what was on its way on the old one is written when the client asks again.
    pub(crate) fn resume(&mut self, table: &mut CallTable) {
        table.last_here = 0;
        table.to_write.clear();
        table.turned_away.clear();
    }

    /// The client has its outcome for these calls, or for all but these.
    pub(crate) fn handle_settle(&mut self, table: &mut CallTable, settle: Settle<'_>) {
        if !settle.all_but {
            self.settle(table, settle.ids.iter());
            return;
        }
        let mut kept: Vec<u64> = settle.ids.iter().collect();
        kept.sort_unstable();
        let coming = kept.iter().copied().find(|id| *id >= table.first_turned_away);
        table.first_turned_away = coming.unwrap_or(u64::MAX);
        let settled: Vec<u64> = table.entries.ids().filter(|id| kept.binary_search(id).is_err()).collect();
        self.settle(table, settled.into_iter());
    }

    fn settle(&mut self, table: &mut CallTable, ids: impl Iterator<Item = u64>) {
        for id in ids {
            match table.entries.get_mut(id).map(|entry| &mut entry.state) {
                Some(State::Running { settled, .. }) => {
                    table.settled_running += u32::from(!core::mem::replace(settled, true));
                }
                Some(state) => {
                    self.stats.withdrawn += u64::from(matches!(state, State::Queued { .. }));
                    self.remove(table, id);
                }
                None => {}
            }
        }
    }

    /// Takes a queued call's arguments to run it; from here on it has run.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        table: &mut CallTable,
        id: u64,
        max_frame: u32,
    ) -> Result<Received, NotStarted> {
        let entry = table.entries.get_mut(id).ok_or(NotStarted::Withdrawn)?;
        let State::Queued { deadline, begin } = entry.state else { return Err(NotStarted::Started) };
        if now >= deadline {
            self.stats.expired += 1;
            self.finish(table, id, Status::NotExecuted(Refusal::Expired), Payload::NONE, max_frame);
            return Err(NotStarted::Expired);
        }
        let buffer = core::mem::take(&mut entry.bytes);
        entry.state = State::Running { held: Shelf::cost(&buffer), settled: false };
        self.stats.started += 1;
        Ok(Received::behind(buffer, begin as usize))
    }

    /// Takes arguments back that [`Replier::start`] handed out.
    pub(crate) fn give_back(&mut self, arguments: Received) {
        self.keep(arguments.into_parts().0);
    }

    /// Keeps a buffer for the next message.
    pub(crate) fn keep(&mut self, buffer: Vec<u8>) {
        if let Some(small) = self.shelf.put(buffer, self.free_bytes()) {
            self.spares.put(small);
        }
    }

    /// Keeps this buffer for the next message if it is a large one, and leaves an empty one in its place.
    pub(crate) fn keep_large(&mut self, buffer: &mut Vec<u8>) {
        if self.shelf.is_large(buffer.capacity()) {
            self.keep(core::mem::take(buffer));
        }
    }

    /// Bytes of results that may still be kept.
    fn free_bytes(&self) -> u64 {
        self.results_limit.saturating_sub(self.stats.result_bytes)
    }

    /// Arguments of so many bytes are kept where they came together.
    pub(crate) fn is_large(&self, len: usize) -> bool {
        self.shelf.is_large(len)
    }

    /// An empty buffer for a frame of `len` bytes that is coming, if there is one that is hardly larger.
    pub(crate) fn lend_buffer(&mut self, len: usize) -> Option<Vec<u8>> {
        self.shelf.is_large(len).then(|| self.shelf.take(len, usize::MAX)).flatten()
    }

    /// A buffer for an answer: one of those that are left of large ones, as long as there are any.
    pub(crate) fn lend_for_answer(&mut self, buffer: &mut Vec<u8>) {
        if !self.shelf.is_large(buffer.capacity()) {
            if let Some(large) = self.shelf.take_any(self.lent_answer_bytes) {
                *buffer = large;
            }
        }
    }

    /// Lets go of what large messages have left if there were none for a while.
    pub(crate) fn age(&mut self) {
        self.shelf.age();
    }

    /// Lets go of what is only kept for messages that are to come.
    pub(crate) fn release(&mut self) {
        self.spares = Spares::default();
        self.shelf.clear();
    }

    /// Enters the answer of a call. A call that has its answer keeps its first one. Returns whether anybody waits.
    pub(crate) fn reply(
        &mut self,
        table: &mut CallTable,
        id: u64,
        status: Status,
        payload: Payload<'_>,
        max_frame: u32,
    ) -> bool {
        match table.entries.get(id).map(|entry| entry.state) {
            Some(State::Running { settled: true, .. }) => {
                self.stats.answered += 1;
                self.stats.dropped_results += 1;
                self.remove(table, id);
                false
            }
            Some(State::Running { .. }) => {
                self.stats.answered += 1;
                self.finish(table, id, status, payload, max_frame);
                true
            }
            Some(State::Queued { .. }) => {
                self.finish(table, id, status, payload, max_frame);
                true
            }
            Some(State::Done { .. }) | None => {
                self.stats.dropped_results += 1;
                false
            }
        }
    }

    /// Refuses all calls that have not started.
    pub(crate) fn refuse_queued(&mut self, table: &mut CallTable, why: Refusal, max_frame: u32) {
        let queued = table.entries.iter().filter(|(_, entry)| matches!(entry.state, State::Queued { .. }));
        for id in queued.map(|(id, _)| id).collect::<Vec<_>>() {
            self.finish(table, id, Status::NotExecuted(why), Payload::NONE, max_frame);
        }
    }

    /// The session's record is gone: what has not started never does.
    pub(crate) fn leave(&mut self, table: &mut CallTable) {
        for id in table.entries.ids().collect::<Vec<_>>() {
            let state = table.entries.get(id).map(|entry| entry.state);
            self.stats.withdrawn += u64::from(matches!(state, Some(State::Queued { .. })));
            self.remove(table, id);
        }
        (table.entries, table.to_write) = (Ascending::new(), VecDeque::new());
        self.count(table);
    }

    fn finish(
        &mut self,
        table: &mut CallTable,
        id: u64,
        status: Status,
        payload: Payload<'_>,
        max_frame: u32,
    ) {
        let Some(entry) = table.entries.get_mut(id) else { return };
        match entry.state {
            State::Queued { .. } => {
                let buffer = core::mem::take(&mut entry.bytes);
                self.stats.queued_bytes -= Shelf::cost(&buffer);
                self.keep(buffer);
            }
            State::Running { held, .. } => self.stats.queued_bytes -= held,
            State::Done { .. } => {}
        }
        entry.bytes = self.answer(id, status, payload, max_frame);
        entry.state = State::Done { written: false };
        self.stats.result_bytes += Shelf::cost(&entry.bytes);
        self.shelf.make_room(self.free_bytes());
        table.to_write.push_back(id);
        self.count(table);
    }

    /// The frame of an answer; if there is no room for it, one that says so.
    fn answer(&mut self, id: u64, status: Status, mut payload: Payload<'_>, max_frame: u32) -> Vec<u8> {
        if let Payload::InPlace(buffer) = &mut payload {
            let is_free = self.stats.result_bytes + Shelf::cost(buffer) <= self.results_limit;
            let may_stay = status == Status::Ok && self.shelf.may_stay(buffer) && is_free;
            if may_stay && wire::complete_result(id, max_frame, buffer).is_ok() {
                return core::mem::take(buffer);
            }
        }
        let payload = payload.bytes();
        if payload.is_empty() || self.stats.result_bytes + payload.len() as u64 <= self.results_limit {
            let mut frame = self.take_buffer(payload.len() + REPLY_HEADER_BYTES);
            if (Frame::Reply { header: Reply { id, status }, payload }.encode(max_frame, &mut frame)).is_ok()
            {
                return frame;
            }
            self.keep(frame);
        }
        self.stats.results_not_kept += 1;
        // A lost result is something to know; of a refusal only the words are lost.
        let status = if status == Status::Ok { Status::ResultNotKept } else { status };
        self.without_payload(id, status, max_frame)
    }

    /// An empty buffer for `len` bytes.
    fn take_buffer(&mut self, len: usize) -> Vec<u8> {
        // It counts for all that it takes.
        let most = usize::try_from(self.free_bytes()).unwrap_or(usize::MAX);
        let large = self.shelf.is_large(len).then(|| self.shelf.take(len, most)).flatten();
        large.unwrap_or_else(|| self.spares.take(len))
    }

    fn without_payload(&mut self, id: u64, status: Status, max_frame: u32) -> Vec<u8> {
        let mut frame = self.spares.take(REPLY_HEADER_BYTES);
        Frame::Reply { header: Reply { id, status }, payload: &[] }
            .encode(max_frame, &mut frame)
            .expect("a reply without payload fits into every frame limit");
        frame
    }

    fn remove(&mut self, table: &mut CallTable, id: u64) {
        let Some(entry) = table.entries.remove(id) else { return };
        self.stats.queued_bytes -= ENTRY_OVERHEAD;
        match entry.state {
            State::Queued { .. } => self.stats.queued_bytes -= Shelf::cost(&entry.bytes),
            State::Running { held, settled } => {
                self.stats.queued_bytes -= held;
                table.settled_running -= u32::from(settled);
            }
            State::Done { .. } => self.stats.result_bytes -= Shelf::cost(&entry.bytes),
        }
        self.keep(entry.bytes);
        // Whoever settles what it does not read must not make the list grow.
        if table.to_write.len() > table.entries.len() + TO_WRITE_SLACK {
            table.to_write.retain(|id| table.entries.contains_key(*id));
        }
        // Half of the room is for those who are not done, and those who took little of it.
        let is_large = u64::from(table.counted) > self.tables_limit / LARGE_PART;
        let limit = if is_large && table.is_empty() { self.tables_limit / 2 } else { self.tables_limit };
        if table.counted > 0 && self.tables > limit {
            self.shrink(table);
        }
    }

    /// Counts what a table has grown or shrunk by.
    fn count(&mut self, table: &mut CallTable) {
        let memory = table.memory();
        self.tables = self.tables + u64::from(memory) - u64::from(table.counted);
        table.counted = memory;
    }

    /// Lets go of what a table holds beyond what its entries are charged for.
    fn shrink(&mut self, table: &mut CallTable) {
        table.entries.shrink();
        if table.to_write.capacity() > 2 * (table.entries.len() + TO_WRITE_SLACK) {
            table.to_write.shrink_to(table.to_write.len() + TO_WRITE_SLACK);
        }
        self.count(table);
    }

    /// Appends answers to a chunk until it is full. A large one becomes the chunk itself, without a copy, and is not
    /// kept once it is begun.
    pub(crate) fn take(&mut self, table: &mut CallTable, chunk: &mut Chunk) -> Option<Vec<u8>> {
        while let Some(id) =
            table.turned_away.front().copied().filter(|_| chunk.bytes().len() < CHUNK_BYTES / 2)
        {
            let header = Reply { id, status: Status::NotExecuted(Refusal::Full) };
            let frame = Frame::Reply { header, payload: &[] };
            frame
                .encode(u32::MAX, chunk.buffer())
                .expect("a reply without payload fits into every frame limit");
            table.turned_away.pop_front();
        }
        while let Some(&id) = table.to_write.front() {
            let Some((written, frame)) = table.entries.get_mut(id).and_then(Entry::answer) else {
                table.to_write.pop_front();
                continue;
            };
            if frame.len() > KEPT_RESULT_BYTES {
                if !chunk.bytes().is_empty() {
                    break;
                }
                *written = true;
                let frame = core::mem::take(frame);
                self.stats.result_bytes -= Shelf::cost(&frame);
                table.to_write.pop_front();
                return Some(chunk.replace_by(frame));
            }
            if !chunk.bytes().is_empty() && chunk.bytes().len() + frame.len() > CHUNK_BYTES {
                break;
            }
            chunk.buffer().extend_from_slice(frame);
            *written = true;
            table.to_write.pop_front();
        }
        None
    }

    /// Answers of which nothing was written wait again, in their order.
    pub(crate) fn handle_written(&mut self, table: &mut CallTable, chunk: &Chunk, written: usize) {
        if written == chunk.bytes().len() {
            return;
        }
        let untouched: Vec<u64> =
            chunk.fates(written).filter(|(_, fate)| *fate == Fate::Untouched).map(|(id, _)| id).collect();
        for id in untouched.into_iter().rev() {
            if let Some((written, frame)) = table.entries.get_mut(id).and_then(Entry::answer) {
                if frame.is_empty() {
                    // A large answer had become the chunk itself.
                    *frame = chunk.bytes().to_vec();
                    self.stats.result_bytes += Shelf::cost(frame);
                }
                *written = false;
                table.to_write.push_front(id);
            } else if table.may_have_turned_away(id) || id > table.last_id {
                table.turned_away.push_front(id);
            }
        }
        self.shelf.make_room(self.free_bytes());
    }
}
