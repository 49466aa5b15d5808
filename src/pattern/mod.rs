//! What connections are for: the four roles, each a sans-IO machine.
//!
//! ```text
//! driver ---- handle_accepted, handle_connected, handle_bytes, handle_timeout ... ---> machine
//! driver <--- poll_action: dial, transmit, shut down, close --------------------------- machine
//! user   ---- call, publish, subscribe, reply ---------------------------------------> machine
//! user   <--- poll_event / inbox: what came of it -------------------------------------- machine
//! ```
//!
//! [`Server`] accepts connections and serves them as replier, as publisher, or both at one address; [`Requester`] and
//! [`Subscriber`] dial one each and keep it alive. All of them are a [`Machine`] to the driver below, which moves
//! bytes without looking into them, and to the simulator of the tests, which moves them through invented networks.
//!
//! The contract of a driver:
//! * It calls `handle_*` with a `now` that never goes back, reads first, fires [`Machine::handle_timeout`] after and
//!   writes last, and then asks [`Machine::poll_action`] until there is none.
//! * It hands every chunk back, also one whose connection is gone meanwhile, and reports the loss of a connection only
//!   after. A client writes nothing on its next connection before it knows what became of the last one's chunk.
//! * After [`Machine::handle_written`] it asks [`Machine::poll_transmit`] again, at once or when the socket takes more,
//!   until that says `None`; from then on [`Action::Transmit`] says when there is something again.
//! * A [`ConnId`] that it reports for a connection that is gone already is ignored; ids are never reused.

mod admission;
mod ascending;
mod dialer;
mod follower;
#[cfg(test)]
mod hand;
mod inbox;
mod log;
mod peers;
mod prefix;
mod publisher;
mod received;
mod replier;
mod requester;
mod server;
mod set;
mod shelf;
mod spares;
mod subscriber;

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::num::NonZeroU64;

pub use crate::session::reconnect::{Random, Reconnect};
pub use crate::session::{Chunk, CloseReason, LimitReached, Limits, LimitsError, StreamEnd, Violation};
pub use crate::wire::{ByeCode, Lost, Refusal, RejectCode, SessionId, Status, TooLong, MAX_NAME_BYTES};
pub use dialer::{Cause, ClientCeiling, ConnectionEvent, DialError};
pub use inbox::{Batch, Event, EventKind};
pub use log::LogLimits;
pub use prefix::PrefixIndex;
pub use publisher::{
    Gate, PublishError, Published, PublisherStats, Retain, SlowPolicy, StreamError, StreamId, StreamOptions,
    Turn,
};
pub use received::Received;
pub use replier::{NotStarted, ReplierStats, Ticket, Work, ANSWER_FRONT_BYTES};
pub use requester::{
    CallOptions, Done, Failure, FailureKind, NotExecuted, Outcome, Requester, RequesterStats, Unknown,
    REQUEST_FRONT_BYTES,
};
pub use server::{MemoryCeiling, Roles, Server, ServerEvent, ServerStats};
pub use subscriber::{Place, SubscribeError, SubscribeOptions, Subscriber, SubscriberStats};

use crate::time::Instant;

/// One connection of a machine, never reused. One more than its number, so that an `Option` of it takes no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(NonZeroU64);

impl ConnId {
    /// The connection in `slot` in its `generation`.
    pub(crate) fn new(slot: u32, generation: u32) -> Self {
        ConnId(NonZeroU64::MIN.saturating_add(u64::from(generation) << 32 | u64::from(slot)))
    }

    /// A small number that no other living connection of the same machine has.
    pub fn slot(self) -> u32 {
        ((self.0.get() - 1) & 0xffff_ffff) as u32
    }
}

/// What a machine wants its driver to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Connect to the address with this index and report [`Machine::handle_connected`] or
    /// [`Machine::handle_dial_failed`].
    Dial {
        /// The connection-to-be.
        conn: ConnId,
        /// Index into the addresses that the machine was told the number of.
        address: usize,
    },
    /// There is something to write where there was nothing: take chunks with [`Machine::poll_transmit`].
    Transmit(ConnId),
    /// Look at [`Machine::wants_read`] again: it may have become true.
    Read(ConnId),
    /// Shut our side down, so that the peer reads the end; go on reading.
    Shutdown(ConnId),
    /// Close the connection, or give up dialling it, without a report.
    Close(ConnId),
}

/// What a driver needs of a machine. All methods are cheap and none blocks.
pub trait Machine {
    /// A connection was accepted. `None`: there is no room for it, and the driver closes it.
    fn handle_accepted(&mut self, now: Instant, peer: SocketAddr) -> Option<ConnId>;
    /// A dial succeeded.
    fn handle_connected(&mut self, now: Instant, conn: ConnId);
    /// A dial failed.
    fn handle_dial_failed(&mut self, now: Instant, conn: ConnId, error: DialError);
    /// Bytes came; all of them are taken in.
    fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]);
    /// The last read found nothing more.
    fn handle_drained(&mut self, now: Instant, conn: ConnId);
    /// The connection is gone, from outside.
    fn handle_closed(&mut self, now: Instant, conn: ConnId, how: StreamEnd);
    /// The first `written` bytes of the chunk have been taken by the kernel.
    fn handle_written(&mut self, now: Instant, conn: ConnId, chunk: Chunk, written: usize);
    /// The moment that [`Machine::poll_timeout`] named has come. Early calls are harmless.
    fn handle_timeout(&mut self, now: Instant);
    /// When the machine next wants [`Machine::handle_timeout`].
    fn poll_timeout(&self) -> Option<Instant>;
    /// The next thing that the machine wants done.
    fn poll_action(&mut self) -> Option<Action>;
    /// The next bytes to write on this connection; `None` until the next [`Action::Transmit`].
    fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<Chunk>;
    /// Whether the driver is to read from this connection at all.
    fn wants_read(&self, conn: ConnId) -> bool;
    /// So many times what is read at once from others may be read from one of its connections: nobody's answer waits
    /// behind it.
    const READS_AT_ONCE: usize = 1;
    /// How many bytes it takes from this connection at once, at most; asked before each read.
    fn read_most(&self, conn: ConnId) -> usize {
        let _ = conn;
        usize::MAX
    }
    /// Bytes of this connection may have an answer that says the time of day: it is to be handed in before them.
    fn wants_wall_clock(&self, _conn: ConnId) -> bool {
        false
    }
    /// A new wall-clock reading, nanoseconds since the Unix epoch: data for heartbeats, not a timer.
    fn handle_wall_clock(&mut self, wall_clock_ns: u64);
    /// A panic interrupted the machine: close everything, promise nothing about what was under way.
    fn handle_poisoned(&mut self, now: Instant);
    /// It was stopped and all is done: what it still holds may go, whoever keeps the machine itself.
    fn release(&mut self) {}
}

/// The earlier one of two moments that may not be there.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Buffers that chunks are gathered in, kept for the next one. Bounded: a few, none larger than it needs to be.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Vec<Vec<u8>>);

/// Bytes gathered into one chunk, unless a single frame is larger.
const CHUNK_BYTES: usize = 64 * 1024;

impl Buffers {
    const MOST: usize = 2;
    const MOST_BYTES_EACH: usize = 2 * CHUNK_BYTES;
    /// The most memory that these can hold, in bytes.
    const CEILING_BYTES: usize = Self::MOST * (Self::MOST_BYTES_EACH + 4 * size_of::<Vec<u8>>());

    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps a buffer if it is among the first few and not too large. Else it comes back.
    fn put(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.0.len() == Self::MOST || buffer.capacity() > Self::MOST_BYTES_EACH {
            return Some(buffer);
        }
        self.0.push(buffer);
        None
    }
}
