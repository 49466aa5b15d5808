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

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::dialer::{ClientRole, Dialer, DialerSetup, Lag};
use super::{ConnectionEvent, Random, Reconnect};
use crate::session::{Chunk, CloseReason, Fate, Limits, Violation};
use crate::time::{Duration, Instant};
use crate::wire::{
    Frame, Ids, Refusal, Reply, Request, Role, SessionId, Settle, Status, TooLong, Welcome, MAX_NAME_BYTES,
};

/// How one call is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallOptions {
    /// When the caller gives up.
    pub deadline: Instant,
    /// It may run more than once: send it again after a loss, until its deadline.
    pub idempotent: bool,
    /// Refuse at once while there is no connection.
    pub fail_fast: bool,
}

/// The end of a call: exactly one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What [`Requester::call`] returned.
    pub id: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// The five ways in which a call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran once; this is its result.
    Value(Vec<u8>),
    /// It ran, or was looked at, and the server says no.
    Failed(Failure),
    /// It certainly did not start: safe to send again.
    NotExecuted(NotExecuted),
    /// It ran once, and the answer is gone.
    ResultNotKept,
    /// It may or may not have run: ask whoever would know.
    Unknown(Unknown),
}

/// The server's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of no.
    pub kind: FailureKind,
    /// The server's words.
    pub text: String,
}

/// What kind of no a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The function ran and returned an error; the text is the function's.
    Function,
    /// There is no function of that name.
    UnknownFunction,
    /// The arguments did not decode to what the function takes.
    BadArguments,
    /// The function panicked.
    Panicked,
    /// The function let its responder go without an answer.
    Dropped,
}

/// Why a call certainly did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NotExecuted {
    /// There was no connection until its deadline, or none and it was to fail fast.
    #[error("not connected")]
    NotConnected,
    /// Its deadline came before it was begun, here or at the server.
    #[error("expired before it was started")]
    Expired,
    /// A bound was reached, here or at the server.
    #[error("too many calls in flight, or too many bytes of them")]
    Full,
    /// The client or the server is stopping.
    #[error("shutting down")]
    ShuttingDown,
    /// The server was asked to forget it before it had started it.
    #[error("withdrawn")]
    Withdrawn,
    /// The request is longer than the frame limit.
    #[error("request of {len} bytes is above the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u32,
    },
    /// The function's name is empty or longer than 255 bytes.
    #[error("function name of {len} bytes, the limits are 1 and {limit}")]
    BadName {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Why it is not known whether a call has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// Its deadline came before its answer.
    #[error("no answer before the deadline")]
    Deadline,
    /// The connection was lost and did not come back in time.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The server was restarted.
    #[error("the server was restarted")]
    Restarted,
    /// The server no longer knows this session.
    #[error("the server no longer knows the session")]
    SessionLost,
    /// The client was stopped.
    #[error("the client was stopped")]
    Stopped,
}

/// What a requester counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RequesterStats {
    /// Calls accepted.
    pub calls: u64,
    /// Calls refused at once.
    pub refused: u64,
    /// Calls that ended with an answer of the server's.
    pub answered: u64,
    /// Calls that ended as unknown.
    pub unknown: u64,
    /// Calls that ended as not executed.
    pub not_executed: u64,
    /// Replies that nobody waited for any more: counted and dropped.
    pub late_replies: u64,
    /// Calls sent again, or for the first time after they had been cut off.
    pub sent_again: u64,
    /// Calls without an outcome at this moment.
    pub in_flight: u64,
    /// Bytes of their arguments.
    pub held_bytes: u64,
}

#[derive(Debug)]
struct Call {
    /// What its caller knows it by.
    id: u64,
    function: Box<str>,
    arguments: Vec<u8>,
    options: CallOptions,
    state: State,
    /// The kernel had all of it once, on this connection or an earlier one: only the server can say that it was not
    /// executed.
    sent: bool,
    /// It was sent to a record that is gone, so not even the server can say so any more, and why.
    doubt: Option<Unknown>,
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

/// Settled ids that are gathered before a frame of their own is sent for them.
const SETTLE_AT: usize = 256;
/// How long they are gathered.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// Calls functions of one server; see the module's page.
#[derive(Debug)]
pub struct Requester {
    dialer: Dialer,
    /// Calls without an outcome, by the ids that they have on the wire: that of their caller, unless they are sent again
    /// to a server that no longer knows them.
    calls: BTreeMap<u64, Call>,
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
            dialer: Dialer::new(setup, limits),
            calls: BTreeMap::new(),
            queue: VecDeque::new(),
            next_id: 1,
            look_at: Instant::NEVER,
            settled: Vec::new(),
            riding: None,
            settle_due: None,
            settle_now: false,
            stopped: true,
            done: VecDeque::new(),
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
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
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
        if let Some(refusal) = self.refusal(now, function, arguments, options) {
            self.stats.refused += 1;
            return Err(refusal);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.stats.calls += 1;
        self.stats.held_bytes += arguments.len() as u64;
        self.look_at = self.look_at.min(options.deadline);
        let (function, arguments) = (Box::from(function), arguments.to_vec());
        let call = Call { id, function, arguments, options, state: State::Queued, sent: false, doubt: None };
        self.calls.insert(id, call);
        self.queue.push_back(id);
        self.dialer.wake();
        Ok(id)
    }

    fn refusal(
        &self,
        now: Instant,
        function: &str,
        arguments: &[u8],
        options: CallOptions,
    ) -> Option<NotExecuted> {
        let limits = self.dialer.limits();
        let frame_len = REQUEST_HEADER_BYTES + (function.len() + arguments.len()) as u64;
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
            || self.stats.held_bytes + arguments.len() as u64 > limits.held_requests_bytes
        {
            Some(NotExecuted::Full)
        } else {
            None
        }
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
        let Some(call) = self.calls.remove(&id) else { return };
        self.stats.held_bytes -= call.arguments.len() as u64;
        match &outcome {
            Outcome::Unknown(_) => self.stats.unknown += 1,
            Outcome::NotExecuted(_) => self.stats.not_executed += 1,
            _ => self.stats.answered += 1,
        }
        self.done.push_back(Done { id: call.id, outcome });
    }

    /// Ends a call without a word of the server's: as not executed if nothing of it can have arrived, else as unknown,
    /// and then the server need not keep it.
    fn give_up(&mut self, now: Instant, id: u64, unsent: NotExecuted, sent: Unknown) {
        let Some(call) = self.calls.get(&id) else { return };
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

    /// The server may forget this call.
    fn settle(&mut self, now: Instant, id: u64, at_once: bool) {
        Ids::push(&mut self.settled, id);
        if at_once || self.settled.len() >= SETTLE_AT * ID_BYTES {
            self.settle_now = true;
            self.dialer.wake();
        } else {
            self.settle_due.get_or_insert(now + SETTLE_AFTER);
        }
    }

    fn handle_reply(&mut self, now: Instant, reply: Reply, payload: &[u8]) {
        let Some(call) = self.calls.get(&reply.id) else {
            self.stats.late_replies += 1;
            return;
        };
        let doubt = call.doubt;
        let failed =
            |kind| Outcome::Failed(Failure { kind, text: String::from_utf8_lossy(payload).into_owned() });
        let outcome = match reply.status {
            Status::Ok => Outcome::Value(payload.to_vec()),
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

    /// Puts calls back to the front of the queue, in the order of their ids.
    fn requeue(&mut self, mut ids: Vec<u64>) {
        ids.sort_unstable();
        for id in ids.into_iter().rev() {
            if let Some(call) = self.calls.get_mut(&id) {
                call.state = State::Queued;
                self.queue.push_front(id);
            }
        }
        self.dialer.wake();
    }

    fn interrupt(&mut self, now: Instant, id: u64) {
        let resume_wait = self.dialer.limits().resume_wait;
        if let Some(call) = self.calls.get_mut(&id) {
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
        for (id, call) in &self.calls {
            let at = match call.state {
                // An idempotent call waits for a connection on which it can be sent again.
                State::Interrupted { until } if !call.options.idempotent => until,
                _ => call.options.deadline,
            };
            if at <= now {
                over.push((*id, call.state));
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
            let Some(call) = self.calls.remove(&old) else { continue };
            self.calls.insert(self.next_id, call);
            self.queue.push_back(self.next_id);
            self.next_id += 1;
        }
    }

    fn encode(&mut self, now: Instant, id: u64, chunk: &mut Chunk) -> Result<(), TooLong> {
        let Some(call) = self.calls.get(&id) else { return Ok(()) };
        let left = call.options.deadline.saturating_since(now).as_millis();
        let limit = self.dialer.session_mut().map_or(0, |session| session.peer_max_frame());
        let bare = REQUEST_HEADER_BYTES + (call.function.len() + call.arguments.len()) as u64;
        let ride = self.settled.len().min(SETTLE_AT * ID_BYTES);
        let fits = bare + RIDERS_LENGTH_BYTES + ride as u64 <= u64::from(limit);
        let riding = if self.riding.is_none() && fits { &self.settled[..ride] } else { &[] };
        let header = Request {
            id,
            time_left_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
            function: &call.function,
            settled: Ids::from_bytes(riding).expect("built from whole ids"),
        };
        Frame::Request { header, arguments: &call.arguments }.encode(limit, chunk.buffer())?;
        if !riding.is_empty() {
            self.riding = Some((id, ride));
        }
        Ok(())
    }

    /// The request that settled ids rode on was begun: they are said. If it was not, they ride on the next one.
    fn handle_ride(&mut self, id: u64, fate: Fate) {
        let Some((_, len)) = self.riding.take_if(|(carrier, _)| *carrier == id) else { return };
        if fate != Fate::Untouched {
            self.settled.drain(..len);
            if self.settled.is_empty() {
                self.settle_due = None;
                self.settle_now = false;
            }
        }
    }

    /// Tells a server that still knows the session which calls it has to keep. Those for which one frame has no room
    /// end here.
    fn keep_only(&mut self, again: &mut Vec<u64>) {
        let room = self.dialer.session_mut().map_or(0, |session| session.peer_max_frame()) as usize;
        let most = room.saturating_sub(SETTLE_HEADER_BYTES) / ID_BYTES;
        for id in again.split_off(most.min(again.len())) {
            self.finish(id, Outcome::Unknown(Unknown::SessionLost));
        }
        let mut kept = Vec::new();
        again.iter().for_each(|id| Ids::push(&mut kept, *id));
        let ids = Ids::from_bytes(&kept).expect("built from whole ids");
        if let Some(session) = self.dialer.session_mut() {
            session.send_control(&Frame::Settle(Settle { all_but: true, ids }));
        }
    }

    /// Forgets what was to be settled: the record that it was about is gone.
    fn unsettle(&mut self) {
        self.settled.clear();
        self.riding = None;
        self.settle_due = None;
        self.settle_now = false;
    }
}

const ID_BYTES: usize = size_of::<u64>();
/// Bytes of a Request frame beside its name and its arguments, with nothing settled: the kind, the id, the time left,
/// and the lengths of the name and of the settled ids.
const REQUEST_HEADER_BYTES: u64 = 1 + 8 + 4 + 2 + 1;
/// Bytes of a Settle frame beside its ids, at most: the kind, the flag, and their length.
const SETTLE_HEADER_BYTES: usize = 1 + 1 + 5;
/// What the length of the settled ids may take more than one byte.
const RIDERS_LENGTH_BYTES: u64 = 1;

fn not_executed(why: Refusal) -> NotExecuted {
    match why {
        Refusal::Expired => NotExecuted::Expired,
        Refusal::Full => NotExecuted::Full,
        Refusal::ShuttingDown => NotExecuted::ShuttingDown,
        Refusal::Settled => NotExecuted::Withdrawn,
    }
}

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
            list.push(*id);
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
            if let Some(call) = self.calls.get_mut(id) {
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
                self.handle_reply(now, header, payload);
                Ok(())
            }
            Frame::Heartbeat(_) => Ok(()),
            frame => Err(CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() })),
        }
    }

    fn handle_lost(&mut self, now: Instant, begun: Option<u64>) {
        // A chunk that is out will tell what became of its calls when it comes back. If none is out and a call is
        // neither sent nor known to be cut off, nobody will ever say.
        let told = self.dialer.is_lent();
        let sent = self.calls.iter().filter(|(id, call)| match call.state {
            State::Sent => true,
            State::Taken => !told && begun != Some(**id),
            _ => false,
        });
        for id in sent.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.interrupt(now, id);
        }
        // Cut off before its last byte: on this connection it cannot have started.
        self.stats.sent_again += u64::from(begun.is_some_and(|id| self.calls.contains_key(&id)));
        self.requeue(begun.into_iter().collect());
        // Waiting to be sent again is no better than having been sent.
        let calls = &self.calls;
        let (unsure, unsent): (Vec<u64>, Vec<u64>) = core::mem::take(&mut self.queue)
            .into_iter()
            .partition(|id| calls.get(id).is_some_and(|call| call.sent));
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
        while let Some(&id) = self.queue.front() {
            let Some(call) = self.calls.get(&id) else {
                self.queue.pop_front();
                continue;
            };
            if call.options.deadline <= now {
                self.queue.pop_front();
                self.give_up(now, id, NotExecuted::Expired, Unknown::Deadline);
                continue;
            }
            let size = chunk.bytes().len();
            if size > 0 && size + call.arguments.len() > super::CHUNK_BYTES {
                return;
            }
            self.queue.pop_front();
            match self.encode(now, id, chunk) {
                Ok(()) => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.state = State::Taken;
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
            let Some(call) = self.calls.get_mut(&id).filter(|call| call.state == State::Taken) else {
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
        }
        if self.settle_due.take_if(|due| *due <= now).is_some() {
            self.settle_now = true;
            self.dialer.wake();
        }
    }

    fn poll_role_timeout(&self) -> Option<Instant> {
        let calls = Some(self.look_at).filter(|at| *at != Instant::NEVER);
        [calls, self.settle_due].into_iter().flatten().min()
    }

    fn after_input(&mut self) {}

    fn lag(&self) -> Lag {
        Lag::None
    }

    fn handle_poisoned_role(&mut self, _now: Instant) {
        self.stopped = true;
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            self.finish(id, Outcome::Unknown(Unknown::Stopped));
        }
        self.queue.clear();
        self.unsettle();
    }
}

#[cfg(test)]
mod tests;
