//! One connection: handshake, heartbeat and silence, send queue, and how it ends.
//!
//! ```text
//!            Hello, Welcome                  close()            all written
//! Greeting ------------------> Established --------> Flushing -------------> Draining ---> gone
//!    |  handshake timeout           |  silence, stall,   |  linger                |  end of input, linger
//!    +------------------------------+--protocol error----+------------------------+---> gone
//! ```
//!
//! A [`Session`] is sans-IO: it is told what the world did (`handle_*`), commanded, asked for what it wants (`poll_*`)
//! and looked at. It does not know what the frames of the roles mean; `pattern` does.

mod close;
mod heartbeat;
mod limits;
mod outbox;
mod progress;
pub mod reconnect;
mod shared;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use close::{CloseReason, LimitReached, StreamEnd, Violation};
pub(crate) use limits::LEAST_LOG_BYTES;
pub use limits::{Limits, LimitsError};
pub use outbox::Chunk;
pub(crate) use outbox::{Fate, Taken};
pub(crate) use shared::SharedFrame;

use crate::time::{Duration, Instant};
use crate::wire::{ByeCode, Deframer, Frame, RejectCode, HANDSHAKE_MAX_FRAME};
use heartbeat::{Quiet, Silence};
use outbox::Outbox;
use progress::Progress;

/// Which side of the connection we are: the server speaks heartbeats, the client listens for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We dialled.
    Client,
    /// We accepted.
    Server,
}

/// What a session waits for; every timer has one of these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// When to give up an unfinished handshake.
    Handshake,
    /// When to send a heartbeat.
    Heartbeat,
    /// When to give a silent server up.
    Silence,
    /// When to give up a frame that does not grow.
    Progress,
    /// When to give up a peer that takes nothing.
    NotReading,
    /// When to stop waiting for a closing connection.
    Linger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting {
        deadline: Instant,
    },
    Established,
    /// Writing what is left; the last words come after the role's own frames, or are said already.
    Flushing {
        deadline: Instant,
    },
    /// Our side is shut down; reading the peer's rest, so that our last words are not lost to a reset.
    Draining {
        deadline: Instant,
    },
}

/// One connection's state between bytes and frames.
///
/// A server may have many thousands of them, most of them idle: what all have in common they share, and what few need is
/// boxed.
#[derive(Debug)]
pub struct Session {
    side: Side,
    phase: Phase,
    limits: Arc<Limits>,
    deframer: Deframer,
    outbox: Outbox,
    quiet: Quiet,
    silence: Silence,
    progress: Progress,
    /// What the server said of its heartbeats, in milliseconds.
    announced_interval_ms: u32,
    /// A heartbeat is due and waits for its place in the stream of bytes.
    heartbeat_due: bool,
    /// Since when output waits without the kernel taking any of it.
    stalled_since: Option<Instant>,
    /// Reading is paused: no clock that judges the peer by its bytes runs.
    paused: bool,
    shutdown_asked: bool,
    /// The last frame of an orderly close, until it is said; empty before and after.
    farewell: Box<[u8]>,
    peer_max_frame: u32,
}

impl Session {
    /// A connection that has just come about.
    pub fn new(now: Instant, side: Side, limits: &Arc<Limits>) -> Self {
        Session {
            side,
            phase: Phase::Greeting { deadline: now + limits.handshake_timeout },
            limits: Arc::clone(limits),
            deframer: Deframer::new(),
            outbox: Outbox::default(),
            quiet: Quiet::new(now),
            silence: Silence::default(),
            progress: Progress::default(),
            announced_interval_ms: 0,
            heartbeat_due: false,
            stalled_since: None,
            paused: false,
            shutdown_asked: false,
            farewell: Box::default(),
            peer_max_frame: HANDSHAKE_MAX_FRAME,
        }
    }

    // What the world did.

    /// Bytes came. Call it before they are decoded.
    pub fn handle_heard(&mut self) {
        self.silence.handle_heard();
    }

    /// All bytes at hand have been decoded, and perhaps whole frames were among them.
    pub fn handle_decoded(&mut self, now: Instant, frames: bool) {
        let timeout = self.limits.frame_progress_timeout;
        self.progress.handle_partial(now, timeout, self.deframer.partial_len(), frames);
    }

    /// A read found nothing.
    pub fn handle_drained(&mut self, now: Instant) {
        if !self.paused {
            self.silence.handle_drained(now);
        }
    }

    /// A timer fired, or might have. Returns why the connection is to end at once, if it is.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<CloseReason> {
        let (due, timer) = self.poll_timeout()?;
        if now < due {
            return None;
        }
        match timer {
            Timer::Handshake => Some(CloseReason::HandshakeTimeout),
            Timer::Silence => Some(CloseReason::Silent),
            Timer::Progress => {
                Some(CloseReason::FrameStalled { received: self.deframer.partial_len() as u64 })
            }
            Timer::NotReading => Some(CloseReason::NotReading),
            Timer::Linger => Some(CloseReason::ByUs),
            Timer::Heartbeat => {
                self.heartbeat_due = true;
                None
            }
        }
    }

    /// There turned out to be nothing to write: whatever had waited was withdrawn, and the peer owes us nothing.
    pub(crate) fn handle_nothing_to_write(&mut self) {
        self.stalled_since = None;
    }

    // Commands.

    /// The handshake is done. `peer_max_frame` is the peer's own limit.
    pub fn establish(&mut self, now: Instant, peer_max_frame: u32) {
        self.phase = Phase::Established;
        self.peer_max_frame = peer_max_frame;
        self.quiet.handle_sent(now);
    }

    /// The server's heartbeat timeout follows from the interval that it announced: at least three of them.
    pub fn expect_heartbeats_every(&mut self, interval_ms: u32) {
        self.announced_interval_ms = interval_ms;
        self.silence.handle_heard();
    }

    /// Reading stops until [`Session::unpause`]: the application is behind.
    pub fn pause(&mut self) {
        self.paused = true;
        self.silence.handle_heard();
        self.progress.pause();
    }

    /// Reading goes on; the clocks start with what it finds.
    pub fn unpause(&mut self) {
        self.paused = false;
    }

    /// Queues a control frame in front of everything that has not been begun.
    pub fn send_control(&mut self, frame: &Frame<'_>) {
        frame
            .encode(self.peer_max_frame, self.outbox.control())
            .expect("control frames are built to fit into every limit that a handshake lets pass");
    }

    /// Begins an orderly end: what the role still has, then Bye, then the end of our side; all within `linger`.
    pub fn close(&mut self, now: Instant, code: ByeCode, text: &str) {
        if self.is_closing() {
            return;
        }
        let mut farewell = Vec::new();
        Frame::Bye { code, text: shortened(text) }
            .encode(self.peer_max_frame, &mut farewell)
            .expect("a short text fits into every frame limit");
        self.farewell = farewell.into_boxed_slice();
        self.phase = Phase::Flushing { deadline: now + self.limits.linger };
    }

    /// Ends the connection over the peer's mistake or a limit: Bye as soon as a begun frame is finished, nothing else.
    pub fn abort(&mut self, now: Instant, code: ByeCode, text: &str) {
        self.close(now, code, text);
        self.say_farewell();
    }

    /// Refuses the connection: Reject, then the end of our side.
    pub fn reject(&mut self, now: Instant, code: RejectCode, text: &str) {
        if self.is_closing() {
            return;
        }
        self.send_control(&Frame::Reject { code, text: shortened(text) });
        self.phase = Phase::Flushing { deadline: now + self.limits.linger };
    }

    /// Begins to end the connection without a word: the peer has said Bye and listens no more.
    pub fn close_silently(&mut self, now: Instant) {
        if !self.is_closing() {
            self.phase = Phase::Flushing { deadline: now + self.limits.linger };
        }
    }

    /// The role has nothing more to write: the last words of an orderly close come now.
    pub(crate) fn say_farewell(&mut self) {
        self.outbox.control().extend_from_slice(&core::mem::take(&mut self.farewell));
    }

    // What we want now.

    /// The next moment at which [`Session::handle_timeout`] has something to do, and what.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let mut next = None;
        let mut consider = |at: Instant, timer| {
            if next.is_none_or(|(earliest, _)| at < earliest) {
                next = Some((at, timer));
            }
        };
        match self.phase {
            Phase::Flushing { deadline } | Phase::Draining { deadline } => {
                return Some((deadline, Timer::Linger))
            }
            Phase::Greeting { deadline } => consider(deadline, Timer::Handshake),
            Phase::Established if self.side == Side::Client => {
                if let Some(at) = self.silence.deadline(self.silence_timeout()) {
                    consider(at, Timer::Silence);
                }
            }
            Phase::Established if self.heartbeat_due => {}
            Phase::Established => {
                consider(self.quiet.due(self.limits.heartbeat_interval), Timer::Heartbeat);
            }
        }
        if let Some(at) = self.progress.deadline() {
            consider(at, Timer::Progress);
        }
        if let Some(since) = self.stalled_since {
            consider(since + self.limits.not_reading_timeout, Timer::NotReading);
        }
        next
    }

    /// A heartbeat is due: the owner writes it with the position of that moment through [`Session::send_control`].
    /// The next one is due an interval after it was queued, not after it was written: one is as good as many.
    pub fn poll_heartbeat(&mut self, now: Instant) -> bool {
        let due = core::mem::take(&mut self.heartbeat_due) && self.is_established();
        if due {
            self.quiet.handle_sent(now);
        }
        due
    }

    /// All is written that was to be written before our side ends: the driver is to shut it down. True once.
    pub fn poll_shutdown(&mut self, now: Instant) -> bool {
        let ready = matches!(self.phase, Phase::Flushing { .. })
            && self.outbox.len() == 0
            && self.farewell.is_empty()
            && !self.outbox.is_lent()
            && !self.shutdown_asked;
        if ready {
            self.shutdown_asked = true;
            self.phase = Phase::Draining { deadline: now + self.limits.linger };
        }
        ready
    }

    /// Takes the next chunk to write. The buffer comes back if there is nothing to take at all, or one is out.
    pub(crate) fn take(&mut self, buffer: Vec<u8>) -> Result<Taken, Vec<u8>> {
        self.outbox.take(buffer)
    }

    /// Gives back a chunk that nothing was added to.
    pub(crate) fn untake(&mut self, chunk: Chunk) -> Vec<u8> {
        self.outbox.untake(chunk)
    }

    /// Takes note of what the kernel took of a chunk. Returns the buffer if it is free again.
    pub(crate) fn put_back(&mut self, now: Instant, chunk: Chunk, written: usize) -> Option<Vec<u8>> {
        let all = written == chunk.bytes().len();
        if written > 0 {
            self.quiet.handle_sent(now);
            self.stalled_since = None;
        }
        if !all {
            self.stalled_since.get_or_insert(now);
        }
        self.outbox.put_back(chunk, written)
    }

    // Looking.

    /// For how long a server may be silent.
    fn silence_timeout(&self) -> Duration {
        let interval = Duration::from_millis(u64::from(self.announced_interval_ms));
        self.limits.heartbeat_timeout.max(interval.saturating_mul(3))
    }

    /// A heartbeat waits to be written.
    pub(crate) fn wants_heartbeat(&self) -> bool {
        self.heartbeat_due
    }

    /// Lends the deframer out, so that frames can be borrowed from it while the session is told of them.
    pub(crate) fn lend_deframer(&mut self) -> Deframer {
        core::mem::take(&mut self.deframer)
    }

    /// See [`Deframer::wanted_len`].
    pub(crate) fn wanted_len(&self) -> Option<usize> {
        self.deframer.wanted_len()
    }

    /// See [`Deframer::adopt`].
    pub(crate) fn adopt(&mut self, buffer: Vec<u8>) {
        self.deframer.adopt(buffer);
    }

    /// Takes the deframer back.
    pub(crate) fn return_deframer(&mut self, deframer: Deframer) {
        self.deframer = deframer;
    }

    /// The largest frame accepted at this moment, in bytes after the length field.
    pub fn frame_limit(&self) -> u32 {
        match self.phase {
            Phase::Greeting { .. } => HANDSHAKE_MAX_FRAME,
            _ => self.limits.max_frame_bytes,
        }
    }

    /// The largest frame that the peer accepts, in bytes after the length field.
    pub fn peer_max_frame(&self) -> u32 {
        self.peer_max_frame
    }

    /// The handshake is done and nothing has ended.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Established
    }

    /// The handshake is not done.
    pub fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. })
    }

    /// The role may still add frames of its own to a chunk.
    pub(crate) fn takes_role_frames(&self) -> bool {
        self.is_established() || !self.farewell.is_empty()
    }

    /// The connection is on its way out: input is discarded.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Flushing { .. } | Phase::Draining { .. })
    }

    /// Reading is paused. A closing connection is always read, so that its end is seen.
    pub fn is_paused(&self) -> bool {
        self.paused && !self.is_closing()
    }

    /// A chunk is with the driver.
    pub(crate) fn is_lent(&self) -> bool {
        self.outbox.is_lent()
    }

    /// The tag of the begun frame whose tail waits here.
    pub(crate) fn begun(&self) -> Option<u64> {
        self.outbox.begun()
    }

    /// Bytes that wait here to be written.
    pub(crate) fn unsent_len(&self) -> usize {
        self.outbox.len()
    }

    /// Bytes of control frames that wait here.
    pub(crate) fn control_len(&self) -> usize {
        self.outbox.len() - self.outbox.rest_len()
    }

    /// Bytes of memory that the begun frame takes here.
    pub(crate) fn rest_memory(&self) -> usize {
        self.outbox.rest_memory()
    }

    /// Bytes of the begun frame that wait here.
    pub(crate) fn rest_len(&self) -> usize {
        self.outbox.rest_len()
    }

    /// Bytes held of a frame that is not whole yet.
    pub fn partial_len(&self) -> usize {
        self.deframer.partial_len()
    }

    /// Bytes that the frame that is not whole yet has announced.
    pub fn announced_len(&self) -> Option<u64> {
        self.deframer.announced_len()
    }
}

/// Bye and Reject carry a sentence, not a book: it must fit into the smallest frame limit there is, and what has happened
/// to connections is kept for a while.
pub(crate) const MOST_TEXT_BYTES: usize = 512;

fn shortened(text: &str) -> &str {
    if text.len() <= MOST_TEXT_BYTES {
        return text;
    }
    let end = (0..=MOST_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// Turns borrowed words into a reason that can be kept: a peer may say a book all the same.
pub(crate) fn said_bye(code: ByeCode, text: &str) -> CloseReason {
    CloseReason::ByPeer { code, text: Box::from(shortened(text)) }
}

/// The same, for the words of a refusal.
pub(crate) fn said_no(code: RejectCode, text: &str) -> CloseReason {
    CloseReason::Rejected { code, text: Box::from(shortened(text)) }
}

#[cfg(test)]
mod tests;
